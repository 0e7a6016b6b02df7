"""SIGKILL, ENOSPC and EIO at every system call of ADD and DEL, by strace injection: nothing of ours is left.

Swept is the standalone plugin (one process does everything) and the thin client; the agent is killed at
chosen steps and started again. The counts go to the report.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from served import AGENT

from l3net.shell.files.leases import SqliteLeases

if TYPE_CHECKING:
    from conftest import Host

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

#: What changes the world or can fail: the sweep goes through each occurrence of each.
SWEPT = (
    "sendto", "recvfrom", "sendmsg", "connect", "socket", "setns", "openat", "pwrite64", "fdatasync", "fsync",
    "ftruncate", "write", "mkdir", "rename", "unlink", "fcntl",
)  # fmt: skip
#: Of these, what changes nothing by itself; of openat, unless it makes a file.
READING = ("recvfrom", "socket", "setns", "openat")


def sh(*argv: str, check: bool = True) -> None:
    subprocess.run(argv, capture_output=True, check=check)


class Swept:
    """One host, one pod, the plugin under strace."""

    def __init__(self, host: Host, conf: dict[str, Any], program: Path, trace_dir: Path) -> None:
        self.host, self.conf, self.program, self.trace = host, conf, program, trace_dir / "trace"
        self.pod = host.pod()
        self.looks = 0

    def run(self, command: str, *strace: str) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/run/netns/{self.pod}",
            "CNI_PATH": "/none",
            "L3NET_PLUGIN": "l3net-cni",
            "L3NET_CNI_SOCKET": str(self.host.base / "run" / "cni.sock"),
            "L3NET_CNI_SPOOL": str(self.host.base / "state" / "spool"),
        }
        # Stopped at calls that are to fail alone, not at each of the thousands of an interpreter's start. (A
        # signal would not be sent so.)
        failing = [
            each[7:].partition(":")[0] for each in strace if each.startswith("inject=") and "error" in each
        ]
        if failing:
            strace += ("--seccomp-bpf", *(word for call in failing for word in ("-e", f"trace={call}")))
        prefix = ["strace", "-f", "-qq", "-o", str(self.trace), *strace] if strace else []
        return subprocess.run(
            ["ip", "netns", "exec", self.host.name, *prefix, str(self.program)],
            input=json.dumps(self.conf).encode(),
            capture_output=True,
            env=environment,
            timeout=120,
            check=False,
        )

    def changing(self, command: str) -> list[tuple[str, int]]:
        """Those that may change something: killed where it reads is killed before the next of them."""
        return list(self.occurrences(command, reading=False))

    def occurrences(self, command: str, *, reading: bool = True) -> Iterator[tuple[str, int]]:
        """Each (system call, number) of a plain run, past the start of the interpreter."""
        self.run(command, "-e", f"trace={','.join(SWEPT)}")
        counts: dict[str, int] = {}
        started = "python" not in self.program.read_text(errors="ignore")[:200]
        for line in self.trace.read_text(errors="replace").splitlines():
            found = re.match(r"(?:\d+\s+)?(\w+)\(", line)
            if not found:
                continue
            counts[found[1]] = counts.get(found[1], 0) + 1
            # imports only read; what counts begins with the configuration or the namespace
            started = started or "/run/netns/" in line
            if started and (reading or found[1] not in READING or "O_CREAT" in line):
                yield found[1], counts[found[1]]


def clean(swept: Swept, when: str) -> None:
    """After a plain DEL nothing is left: interfaces, lease, spool."""
    done = swept.run("DEL")
    assert done.returncode == 0, (when, done.stdout)
    host = swept.host
    swept.looks += 1
    left: list[Any] = []
    if host.server is not None:
        host.inside(host.server.drain_spool)
        host.settle()
        left += host.server.leases.leases()
        left += (host.base / "state" / "spool").glob("*")
    left += host.veths()
    left += [link["ifname"] for link in host.ip("link", netns=swept.pod) if link["ifname"] != "lo"]
    assert not left, f"leaked {when}: {left}"


def leases_in(directory: Path) -> int:
    path = directory / "leases.db"
    if not path.exists():
        return 0
    store = SqliteLeases(path, verify=True)
    try:
        return len(store.leases())
    finally:
        store.close()


@pytest.fixture
def standalone(bare_host: Host, tmp_path: Path) -> Swept:
    data = tmp_path / "data"
    ipam = {"type": "l3net-ipam", "dataDir": str(data), "subnet": "10.70.0.0/24", "coolDown": 0}
    conf = {"cniVersion": "1.0.0", "name": "swept", "type": "l3net-cni", "bridge": "swept0"}
    conf |= {"isDefaultGateway": True, "ipam": ipam}
    swept = Swept(bare_host, conf, bare_host.plugin_dir / "l3net-standalone", tmp_path)
    assert swept.run("ADD").returncode == 0  # makes the bridge and the store
    assert swept.run("DEL").returncode == 0
    return swept


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "fault",
    [
        "signal=KILL",
        "error=ENOSPC",
        *(pytest.param(each, marks=pytest.mark.soak) for each in ("error=EIO", "error=EROFS")),
    ],
)
def test_standalone_add(
    standalone: Swept, fault: str, every: int, tmp_path: Path, record_property: Any
) -> None:
    steps = standalone.changing("ADD")[::every]
    clean(standalone, "plain")
    if fault != "signal=KILL":
        steps = [
            each for each in steps if each[0] in {"pwrite64", "fdatasync", "fsync", "ftruncate", "mkdir"}
        ]
    assert len(steps) > (20 // every - 1 if fault == "signal=KILL" else 0)
    failed = 0
    for call, number in steps:
        when = f"{fault} at {call} {number}"
        done = standalone.run("ADD", "-e", f"inject={call}:{fault}:when={number}")
        if done.returncode:
            failed += 1
            if fault != "signal=KILL":
                answer = json.loads(done.stdout)
                assert answer["code"] in {5, 11, 104}, (when, answer)
                assert standalone.host.veths() == [] and leases_in(tmp_path / "data") == 0, when
        clean(standalone, when)
        assert leases_in(tmp_path / "data") == 0, when
    assert failed, "the injection did nothing"
    record_property("injections", len(steps))
    record_property("audited", standalone.looks)
    record_property("failed", failed)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_standalone_delete(standalone: Swept, every: int, tmp_path: Path, record_property: Any) -> None:
    standalone.run("ADD")
    steps = standalone.changing("DEL")[::every]
    for call, number in steps:
        when = f"killed at {call} {number}"
        assert standalone.run("ADD").returncode == 0, when
        standalone.run("DEL", "-e", f"inject={call}:signal=KILL:when={number}")
        clean(standalone, when)
        assert leases_in(tmp_path / "data") == 0, when
    record_property("injections", len(steps))
    record_property("audited", standalone.looks)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_client(host: Host, tmp_path: Path, command: str, record_property: Any) -> None:
    """The thin client killed anywhere: the agent undoes, or the DEL that follows does."""
    swept = Swept(host, host.conf, host.plugin_dir / "l3net-cni", tmp_path)
    if command == "DEL":
        swept.run("ADD")
    steps = list(swept.occurrences(command))
    clean(swept, "plain")
    assert len(steps) >= 4
    for call, number in steps:
        if command == "DEL":
            assert swept.run("ADD").returncode == 0
        swept.run(command, "-e", f"inject={call}:signal=KILL:when={number}")
        clean(swept, f"killed at {call} {number}")
    record_property("injections", len(steps))
    record_property("audited", swept.looks)


def test_client_delete_without_agent(bare_host: Host, tmp_path: Path, record_property: Any) -> None:
    """Killed while spooling: either the whole call is in the spool, or the runtime got no success."""
    (bare_host.base / "state").mkdir()
    swept = Swept(bare_host, bare_host.conf, bare_host.plugin_dir / "l3net-cni", tmp_path)
    spool = bare_host.base / "state" / "spool"
    steps = list(swept.occurrences("DEL"))
    for fault in ("signal=KILL", "error=ENOSPC", "error=EIO"):
        for call, number in steps:
            shutil.rmtree(spool, ignore_errors=True)
            done = swept.run("DEL", "-e", f"inject={call}:{fault}:when={number}")
            kept = list(spool.glob("*.del")) if spool.exists() else []
            assert len(kept) == 1 or done.returncode != 0, f"{fault} at {call} {number}"
    record_property("injections", len(steps) * 3)


def test_agent_killed_in_a_storm(bare_host: Host, record_property: Any) -> None:
    """SIGKILL in the midst of ADDs and DELs, again and again: no address twice, and GC leaves nothing."""
    host = bare_host
    pods = [host.pod() for _ in range(6)]
    kills = 5
    for kill in range(kills):
        argv = ["ip", "netns", "exec", host.name, sys.executable, "-c", AGENT, str(host.base)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as agent:
            assert agent.stdout and agent.stdout.readline() == b"ready\n"

            def storm(number: int, kill: int = kill) -> None:
                for turn in range(4):
                    host.cni("ADD", f"k{kill}n{number}t{turn}", pods[number])
                    if turn < 3:
                        host.cni("DEL", f"k{kill}n{number}t{turn}", pods[number])

            with ThreadPoolExecutor(6) as pool:
                running = [pool.submit(storm, number) for number in range(6)]
                while agent.poll() is None:
                    if len(host.veths()) >= kill % 4 + 1 or all(each.done() for each in running):
                        agent.kill()
                        agent.wait()
            for each in running:
                each.result()
        # a lease is never lost to a kill, and no address is held twice
        held = [a for pod in pods for link in host.ip("addr", netns=pod) for a in link["addr_info"]]
        wanted = [a["local"] for a in held if a["scope"] == "global" and a["family"] == "inet"]
        assert len(wanted) == len(set(wanted))
        for pod in pods:
            sh("ip", "-n", pod, "link", "del", "eth0", check=False)
    host.start()
    gc = {"cniVersion": "1.1.0", "name": "l3net", "type": "l3net-cni", "cni.dev/valid-attachments": []}
    assert host.cni("GC", conf=gc).code == 0
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    record_property("kills", kills)
    record_property("audited", 1)
