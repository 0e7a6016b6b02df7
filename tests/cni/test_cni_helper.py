"""Where no agent runs, the first call leaves a helper, which others find: what it does, refuses, ends by."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from l3net.attach.helper import Files
from l3net.cni.frame import BEGUN, ELSEWHERE, Call, encode_call
from l3net.shell.files.leases import SqliteLeases

if TYPE_CHECKING:
    from conftest import Host, Outcome

pytestmark = pytest.mark.netns

DELEGATE = """#!/bin/sh
case $CNI_COMMAND in
ADD) echo >>{0}/began; while [ ! -e {0}/go ]; do sleep 0.02; done
     echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.73.0.9/24"}}]}}' ;;
DEL) echo >>{0}/deleted ;;
esac
"""


def eventually(holds: Callable[[], object], what: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


class Warm:
    """A host whose runtime calls the plugin from its own namespaces, and counts how often Python starts."""

    def __init__(self, host: Host, directory: Path) -> None:
        plugins = directory / "plugins"
        shutil.copytree(host.plugin_dir, plugins)
        self.program, self._starts = plugins / "l3net-standalone", directory / "starts"
        first, _, rest = self.program.read_text().partition("\n")
        self.program.write_text(f"{first}\nopen({str(self._starts)!r}, 'a').write('x')\n{rest}")
        host.plugin_dir, host.at_home = plugins, True
        self.host, self.data = host, directory / "data"

    def conf(self, number: int = 0, **changes: Any) -> dict[str, Any]:
        ipam = {
            "type": "l3net-ipam",
            "dataDir": f"{self.data}{number}",
            "ranges": [[{"subnet": f"10.{73 + number}.0.0/24"}], [{"subnet": f"fd00:{73 + number}::/64"}]],
        }
        found = {
            "cniVersion": "1.0.0",
            "name": f"warm{number}",
            "type": "l3net-cni",
            "bridge": f"warm{number}",
        }
        return {**found, "isGateway": True, "ipam": {**ipam, **changes.pop("ipam", {})}, **changes}

    def starts(self) -> int:
        return len(self._starts.read_text()) if self._starts.exists() else 0

    def cold(self, *words: Any, **more: Any) -> Outcome:
        """A call that no helper carries out."""
        return self.host.cni(*words, L3NET_CNI_HELPER_IDLE="0", **more)

    def call(self, command: str, container: str, pod: str | None = None, **more: Any) -> Outcome:
        return self.host.cni(command, container, pod, **{"conf": self.conf(), **more})

    def leases(self, number: int = 0) -> list[str]:
        store = SqliteLeases(Path(f"{self.data}{number}") / "leases.db")
        try:
            return sorted(lease.key.container_id for lease in store.leases())
        finally:
            store.close()

    def begun(self) -> int:
        """A helper, by a call that changes nothing; its process."""
        self.host.cni("STATUS", conf=self.conf(cniVersion="1.1.0"))  # before the first ADD there is no bridge
        eventually(self.sockets, "no helper listens")
        (pid,) = self.host.helpers()
        return pid

    def sockets(self) -> list[Path]:
        return list((self.host.base / "helpers").glob("*.sock"))


@pytest.fixture
def warm(bare_host: Host, tmp_path: Path) -> Warm:
    return Warm(bare_host, tmp_path)


def test_the_second_call_is_the_helpers(warm: Warm, ping: Any) -> None:
    host, pods = warm.host, [warm.host.pod() for _ in range(2)]
    assert warm.call("ADD", "c0", pods[0]).code == 0
    (pid,) = host.helpers()
    eventually(warm.sockets, "no helper listens")
    assert warm.call("ADD", "c1", pods[1]).code == 0
    assert warm.starts() == 1 and host.helpers() == [pid]
    assert ping(pods[1], "10.73.0.1") and ping(pods[1], "fd00:73::1") and ping(pods[1], "10.73.0.2")
    assert warm.cold("CHECK", "c1", pods[1], conf=warm.conf()).json["code"] == 7 and warm.starts() == 2, (
        "control"
    )
    for number, pod in enumerate(pods):
        assert warm.call("DEL", f"c{number}", pod).code == 0
    assert warm.starts() == 2 and host.veths() == [] and warm.leases() == []
    # nothing of the runtime's is its own: no pipe, no directory, no session, no terminal
    held = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert held & {"/dev/null"} and all(
        each.startswith(("/dev/null", str(host.base), "net:", "socket:", "pipe:")) for each in held
    )
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/") and os.getsid(pid) == pid
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: pid not in host.helpers(), "it does not end")
    assert not list((host.base / "helpers").iterdir())


def test_it_leaves_the_group_of_its_caller(warm: Warm, tmp_path: Path) -> None:
    """What systemd or a runtime ends, or waits for, is a control group."""
    (mount,) = [each for each in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if each.is_dir()][:1]
    group = mount / f"l3net-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as err:
        pytest.skip(f"no control group of version 2 can be made: {err}")
    try:
        script = f'echo $$ >{group}/cgroup.procs; "$0"; cat /proc/$$/cgroup'
        argv = ["nsenter", f"--net=/run/netns/{warm.host.name}", "sh", "-c", script]
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "L3NET_CNI_HELPERS": str(warm.host.base / "helpers"),
            "L3NET_CNI_STATE": str(warm.host.base / "standalone"),
        }
        done = subprocess.run(
            [*argv, str(warm.host.plugin_dir / "l3net-cni")],
            input=json.dumps(warm.conf()),
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        (pid,) = warm.host.helpers()
        assert f"0::/{group.name}" in done.stdout, "the control"
        assert group.name not in Path(f"/proc/{pid}/cgroup").read_text()
        (line,) = [each for each in Path("/proc/1/cgroup").read_text().splitlines() if each.startswith("0::")]
        assert line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    finally:
        eventually(lambda: not group.joinpath("cgroup.procs").read_text(), "somebody is left in the group")
        group.rmdir()


def test_it_is_not_left_where_it_is_not_wanted(warm: Warm, tmp_path: Path) -> None:
    """Switched off by the variable or the key; a directory not root's alone; a call from elsewhere."""
    host = warm.host
    directory = host.base / "helpers"

    def served(**more: Any) -> None:
        before = warm.starts()
        assert warm.call("DEL", "c1", **more).code == 0
        assert warm.starts() == before + 1 and host.helpers() == [] and not warm.sockets()

    served(L3NET_CNI_HELPER_IDLE="0")
    served(conf=warm.conf(helperIdle=0))
    refused = warm.call("ADD", "c1", host.pod(), conf=warm.conf(helperIdle="soon"))
    assert refused.json["code"] == 7 and "helperIdle" in refused.json["msg"]
    host.at_home = False  # a mount namespace for the call alone
    served()
    host.at_home = True
    assert not directory.exists()
    directory.mkdir(mode=0o755)
    served()
    directory.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    directory.symlink_to(elsewhere)
    served()
    directory.unlink()
    assert warm.begun(), "the control"


def test_a_runtime_that_waits_for_its_pipes_is_not_held_up(warm: Warm) -> None:
    """Those of the call, and what it happens to hand down beside them."""
    reading, writing = os.pipe()
    argv = [*warm.host.runtime(), str(warm.host.plugin_dir / "l3net-cni")]
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
    }
    environment["L3NET_CNI_HELPERS"] = str(warm.host.base / "helpers")
    environment["L3NET_CNI_STATE"] = str(warm.host.base / "standalone")
    with os.fdopen(reading, "rb") as end:
        done = subprocess.run(
            argv, input=json.dumps(warm.conf()).encode(), capture_output=True, env=environment, timeout=60,
            pass_fds=[writing], check=False,
        )  # fmt: skip
        os.close(writing)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert end.read() == b""
    assert warm.host.helpers()


def test_first_calls_at_once(warm: Warm) -> None:
    """One starts a helper, and the others wait for it rather than start an interpreter each."""
    pods = [warm.host.pod() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda each: warm.call("ADD", f"c{each[0]}", each[1]), enumerate(pods)))
    assert [each.code for each in done] == [0] * 8, done
    assert len({each.json["ips"][0]["address"] for each in done}) == 8
    assert len(warm.host.helpers()) == 1
    assert warm.starts() < 8  # one, where the machine is not so busy that they lose patience
    with ThreadPoolExecutor(8) as pool:
        assert {each.code for each in pool.map(lambda number: warm.call("DEL", f"c{number}"), range(8))} == {
            0
        }
    assert warm.host.veths() == [] and warm.leases() == []


def test_it_ends_when_idle_and_with_its_store(warm: Warm) -> None:
    """Two stores, one helper; it takes what was put in a store's place, too."""
    host = warm.host
    warm.begun()
    for number in (0, 1):
        assert warm.call("ADD", f"c{number}", host.pod(), conf=warm.conf(number)).code == 0
    assert warm.starts() == 1 and (warm.leases(0), warm.leases(1)) == (["c0"], ["c1"])
    (pid,) = host.helpers()
    shutil.rmtree(f"{warm.data}0")
    time.sleep(0.1)
    assert warm.call("ADD", "c2", host.pod()).code == 0
    assert warm.leases(0) == ["c2"], "not into a file that is gone"
    eventually(lambda: pid not in host.helpers(), "it goes on without its store")
    assert warm.host.cni("DEL", "c1", conf=warm.conf(1), L3NET_CNI_HELPER_IDLE="1").code == 0
    (pid,) = host.helpers()
    eventually(lambda: pid not in host.helpers(), "it never is idle")
    assert warm.call("DEL", "c2").code == 0 and warm.leases(0) == []


def test_another_release_has_another(warm: Warm, tmp_path: Path) -> None:
    host, pid = warm.host, warm.begun()
    before = warm.starts()
    os.utime(warm.program)
    assert warm.call("DEL", "c1").code == 0 and warm.starts() == before + 1
    eventually(lambda: pid not in host.helpers(), "the old one stays")
    (new,) = host.helpers()
    assert new != pid
    # another program's helper has taken the store over: what this one knows is too old
    eventually(warm.sockets, "no helper listens")
    assert warm.call("DEL", "c1").code == 0 and warm.starts() == before + 1
    path = tmp_path / "data0" / "leases.db"
    store = SqliteLeases(path)
    store.transact(lambda db: db.execute("PRAGMA user_version=1000").close())
    store.close()
    refused = warm.call("DEL", "c1")
    assert refused.json["code"] == 5 and "written by a newer release" in refused.json["msg"]
    assert warm.starts() == before + 1, "it was the helper that refused"


def test_files_that_changed(tmp_path: Path) -> None:
    one, now = tmp_path / "one", [0.0]
    one.write_text("a")
    files = Files([str(one), str(tmp_path / "none")], lambda: now[0])
    one.write_text("bc")
    assert files.changed() == "", "looked a moment ago"
    now[0] = 10.0
    assert files.changed() == str(one)


def test_it_serves_its_own_namespaces_alone(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller of another network or mount namespace is sent elsewhere, with nothing begun."""
    host = warm.host
    pid = warm.begun()
    (path,) = warm.sockets()
    call = Call(
        {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"},
        json.dumps(warm.conf()).encode(),
    )
    code = (
        "import socket, sys; one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1]);"
        "one.sendall(sys.stdin.buffer.read()); sys.stdout.buffer.write(one.recv(4))"
    )

    def heard(*entered: str) -> bytes:
        argv = [
            *entered,
            sys.executable,
            "-c",
            code,
            path.name,
        ]  # its whole path may be too long for a socket's
        done = subprocess.run(argv, input=encode_call(call), cwd=path.parent, capture_output=True, check=True)
        return done.stdout

    network = f"--net=/run/netns/{host.name}"
    assert heard("nsenter", network) == BEGUN, "the control"
    assert heard() == ELSEWHERE
    assert heard("nsenter", network, "unshare", "--mount") == ELSEWHERE
    assert heard("nsenter", network, "unshare", "--user", "--map-root-user") == ELSEWHERE
    # what a path means, only the caller knows
    monkeypatch.chdir(tmp_path)
    before = warm.starts()
    assert warm.call("DEL", "c1", conf=warm.conf(ipam={"dataDir": "data"}), CNI_PATH="/none").code in (0, 1)
    assert warm.starts() == before + 1 and host.helpers() == [pid]
    path.unlink()
    eventually(lambda: pid not in host.helpers(), "it stays where nobody finds it")


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("ADD", {"vlan": 7}),
    ("ADD", {"mtu": "big"}),
    ("ADD", {"bridge": "a" * 16}),
    ("ADD", {"ipam": {"ranges": [[{"subnet": "10.71.0.0/33"}]]}}),
    ("ADD", {"ipam": {"type": "none-such"}}),
    ("ADD", {"ipam": {"resolvConf": "/none/such"}}),
    ("ADD", {"cniVersion": "9.9.9"}),
    ("ADD", {"name": ""}),
    ("ADD", {}),  # it is attached already
    ("CHECK", {}),
    ("STATUS", {}),
    (
        "STATUS",
        {"cniVersion": "1.1.0", "ipam": {"ranges": [[{"subnet": "10.79.0.0/30", "rangeEnd": "10.79.0.1"}]]}},
    ),
    ("GC", {}),
    ("NONSENSE", {}),
]


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_it_answers_as_a_process_of_its_own_does(warm: Warm, every: int) -> None:
    host, pod = warm.host, warm.host.pod()
    assert warm.call("ADD", "c1", pod).code == 0
    eventually(warm.sockets, "no helper listens")
    cases: list[dict[str, Any]] = [{"command": command, "conf": warm.conf(**more)} for command, more in WRONG]
    cases += [
        {"command": "ADD", "pod": "none-such"},
        {"command": "ADD", "CNI_NETNS": f"/run/netns/{host.name}"},
    ]
    cases += [{"command": "ADD", "container": "../x"}, {"command": "ADD", "CNI_ARGS": "x"}]
    for case in cases[2::every] if every > 1 else cases:
        words = {"container": "c1", "pod": pod, "conf": warm.conf(), **case}
        before = warm.starts()
        helped = host.cni(**words)
        assert warm.starts() == before, case
        alone = warm.cold(**words)
        assert warm.starts() == before + 1, case
        assert (helped.code, helped.stdout, helped.stderr) == (alone.code, alone.stdout, alone.stderr), case
    assert warm.leases() == ["c1"]


@pytest.fixture
def slow(warm: Warm, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A configuration whose addresses come late: when `go` is there."""
    plugin = warm.host.plugin_dir / "slow"
    plugin.write_text(DELEGATE.format(tmp_path))
    plugin.chmod(0o755)
    yield warm.conf(ipam={"type": "slow"})
    (tmp_path / "go").touch()


def test_what_is_under_way_is_finished(warm: Warm, slow: dict[str, Any], tmp_path: Path) -> None:
    host, pid, pod = warm.host, warm.begun(), warm.host.pod()
    path = str(host.plugin_dir)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.call, "ADD", "c1", pod, conf=slow, CNI_PATH=path)
        eventually((tmp_path / "began").exists, "it does not begin")
        os.kill(pid, signal.SIGTERM)
        (tmp_path / "go").touch()
        done = running.result()
    assert done.code == 0 and done.json["ips"][0]["address"] == "10.73.0.9/24"
    eventually(lambda: pid not in host.helpers(), "it does not end")
    assert warm.starts() == 1


def test_whose_caller_is_killed_is_undone(warm: Warm, slow: dict[str, Any], tmp_path: Path) -> None:
    """As the runtime kills what takes too long: the process that works is another now."""
    pod = warm.host.pod()
    pid = warm.begun()
    environment = {
        "PATH": os.environ["PATH"], "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{pod}", "CNI_PATH": str(warm.host.plugin_dir),
        "L3NET_CNI_HELPERS": str(warm.host.base / "helpers"),
        "L3NET_CNI_STATE": str(warm.host.base / "standalone"),
    }  # fmt: skip
    conf, mark = tmp_path / "conf", tmp_path / "pid"
    conf.write_text(json.dumps(slow))
    script = f'"$0" <{conf} >/dev/null & echo $! >{mark}; wait'
    argv = ["nsenter", f"--net=/run/netns/{warm.host.name}", "sh", "-c", script]
    runtime = subprocess.Popen([*argv, str(warm.host.plugin_dir / "l3net-cni")], env=environment)
    eventually((tmp_path / "began").exists, "it does not begin")
    os.kill(int(mark.read_text()), signal.SIGKILL)
    runtime.wait()
    (tmp_path / "go").touch()
    eventually((tmp_path / "deleted").exists, "nothing is undone")
    eventually(lambda: warm.host.veths() == [], "its link stays")
    assert warm.host.helpers() == [pid]


def test_an_add_that_a_delete_of_another_process_overtook(host: Host) -> None:
    """The DEL found its lease and no link yet: what nobody waits for any more goes all the same."""
    assert host.server is not None
    server, pod = host.server, host.pod()
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
    call = Call({**environment, "CNI_NETNS": f"/run/netns/{pod}"}, json.dumps(host.conf).encode())
    with Path(f"/run/netns/{pod}").open() as netns:
        answer = host.inside(lambda: server.verbs.answer(call, netns.fileno()))
    assert answer.exit_code == 0 and len(host.veths()) == 1
    (lease,) = server.leases.leases()
    server.leases.release(lease.key)
    host.inside(lambda: server.verbs.abandon(call, answer))
    host.settle()
    assert host.veths() == []


def test_killed_helper_and_what_it_had_begun(warm: Warm, slow: dict[str, Any], tmp_path: Path) -> None:
    """ADD is to be tried again after a DEL, as where an agent died; all else is done without it."""
    pid, pod = warm.begun(), warm.host.pod()
    path = str(warm.host.plugin_dir)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.call, "ADD", "c1", pod, conf=slow, CNI_PATH=path)
        eventually((tmp_path / "began").exists, "it does not begin")
        os.kill(pid, signal.SIGKILL)
        done = running.result()
    assert done.code == 1 and done.json["code"] == 11
    (tmp_path / "go").touch()
    assert warm.call("DEL", "c1", pod, conf=slow, CNI_PATH=path).code == 0
    assert warm.host.veths() == []
    assert warm.call("ADD", "c2", pod).code == 0 and warm.leases() == ["c2"]


def test_beside_an_agent(warm: Warm) -> None:
    """It starts while a helper is there, in the same namespace: each has its pods."""
    host, pods = warm.host, [warm.host.pod() for _ in range(3)]
    assert warm.call("ADD", "c0", pods[0]).code == 0
    host.start()
    assert host.cni("ADD", "c1", pods[1]).code == 0
    assert warm.call("ADD", "c2", pods[2]).code == 0
    assert warm.starts() == 1 and len(host.veths()) == 3
    assert warm.call("DEL", "c0", pods[0]).code == 0 and len(host.veths()) == 2
    host.stop()
    host.start()
    assert host.server is not None
    host.inside(host.server.audit)
    host.inside(host.server.audit)
    assert len(host.veths()) == 2 and host.leases() == 1 and warm.leases() == ["c2"]
    assert host.cni("DEL", "c1", pods[1]).code == 0 and warm.call("DEL", "c2", pods[2]).code == 0
    host.settle()
    assert host.veths() == []


#: System calls by which it changes the world, or the caller hears of it.
SWEPT = (
    "sendto",
    "sendmsg",
    "pwrite64",
    "fdatasync",
    "fsync",
    "write",
    "setns",
    "ftruncate",
    "unlink",
    "close",
)


class Traced:
    """A helper that strace looks at, or kills: calls are counted in each thread from now on."""

    def __init__(self, warm: Warm, trace: Path, *options: str) -> None:
        self.pid = warm.begun()
        argv = ["strace", "-f", "-p", str(self.pid), "-o", str(trace), *options]
        self._strace = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        eventually(self._attached, "strace does not attach")

    def _attached(self) -> bool:
        states = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/status")]
        return bool(states) and all("TracerPid:\t0\n" not in each for each in states)

    def __enter__(self) -> Traced:
        return self

    def __exit__(self, *_: object) -> None:
        self._strace.terminate()
        try:
            self._strace.wait(5)
        except subprocess.TimeoutExpired:  # it waits for a thread that was killed in the midst of its end
            self._strace.kill()
            self._strace.wait()


def calls_of(trace: Path) -> list[tuple[str, int]]:
    """Each system call and its number in its thread."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, int], None] = {}
    for line in trace.read_text(errors="replace").splitlines():
        seen = re.match(r"(\d+)\s+(\w+)\(", line)
        if seen:
            key = (seen[1], seen[2])
            counts[key] = counts.get(key, 0) + 1
            found[seen[2], counts[key]] = None
    return list(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.soak
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_killed_anywhere_it_loses_nothing(
    warm: Warm, command: str, tmp_path: Path, record_property: Any
) -> None:
    """The caller hears of success, and it is so, or of a failure, and a DEL leaves nothing."""
    host, pod, trace = warm.host, warm.host.pod(), tmp_path / "trace"
    assert warm.call("ADD", "c0", host.pod()).code == 0

    def prepared() -> None:
        if command == "DEL":
            assert warm.cold("ADD", "c1", pod, conf=warm.conf()).code == 0

    prepared()
    with Traced(warm, trace, "-e", f"trace={','.join(SWEPT)}"):
        assert warm.call(command, "c1", pod).code == 0
    steps = calls_of(trace)
    assert warm.cold("DEL", "c1", pod, conf=warm.conf()).code == 0
    assert len(steps) > 8
    died = 0
    for call, number in steps:
        when = f"killed at {call} {number}"
        prepared()
        with Traced(warm, trace, "-e", f"inject={call}:signal=KILL:when={number}") as traced:
            done = warm.call(command, "c1", pod)
            died += traced.pid not in host.helpers()
        assert done.code == 0 or (command == "ADD" and done.json["code"] == 11), (when, done)
        if command == "DEL":
            assert len(host.veths()) == 1, when
        elif done.code == 0:
            assert len(host.veths()) == 2 and warm.leases() == ["c0", "c1"], when
        assert warm.call("DEL", "c1", pod).code == 0, when
        assert len(host.veths()) == 1 and warm.leases() == ["c0"], when
        assert [link["ifname"] for link in host.ip("link", netns=pod)] == ["lo"], when
    assert died, "nothing was killed"
    record_property("injections", len(steps))
    record_property("died", died)
