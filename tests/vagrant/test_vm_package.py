"""The Debian package under a real systemd: a machine that boots is the node n1 of a lab in namespaces.

Not part of `make test`: `make test-vm` runs it. The machine's own network is systemd-networkd's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from machine_root import TREE, _run
from machine_vm import SerialShell, qemu, taps, vm_disk

from l3net.lab import state
from l3net.lab.errors import LabError
from l3net.lab.machines import machine_files
from l3net.lab.pods import start_server
from l3net.lab.routers import start_router
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, make_hosts, take_down, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.vm,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NODE, ROUTER = "n1", "tor1"
UNITS = ("l3net-speaker", "l3net-agent", "l3net-bfd", "l3net-leave")
NEWER = "0.1.1"
#: Of the node, as its router and its client see it.
OWN = {4: ("10.0.4.1", "10.244.1.0/24", "10.244.1.1"),
       6: ("fd00:10:0:4::1", "fd00:10:244:1::/120", "fd00:10:244:1::1")}  # fmt: skip
#: Before 99-default.link, which matches every interface.
LINK = "[Match]\nMACAddress=02:6c:33:00:04:01\n[Link]\nName=tor1\n"
NETWORK = """[Match]
Name=tor1
[Network]
Address=10.0.4.1/31
Address=fd00:10:0:4::1/127
Gateway=10.0.4.0
Gateway=fd00:10:0:4::
IPv6AcceptRA=no
"""
#: All that a package may leave behind, but for dpkg's and the log's own.
THERE = (
    r"find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp"
    r" -o -path /var/log -o -path /var/backups -o -path /var/cache -o -path /var/lib/dpkg"
    r" -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /opt/cni -o -path /vagrant \) -prune -o"
    r" -printf '%p\n' | grep -v '^/etc/.*-$' | sort; echo ==; ls /run; echo ==; ip -o link | cut -d: -f2;"
    r" ip -o rule; ip route; ip -6 route; nft list ruleset; echo ==; systemctl list-unit-files --no-legend;"
    r" ps -eo args | grep '[l]3net' || true"
)


def package(tree: Path, to: Path) -> Path:
    """What `make deb` of a tree makes."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    argv = [sys.executable, str(tree / "tools/package"), "deb", "--to", str(to)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = to.glob("*.deb")
    return made


def newer(made: Path, to: Path) -> Path:
    """A second build of a package: another version in its control file and in the code."""
    root = to / "root"
    root.parent.mkdir()
    _run(["dpkg-deb", "-R", str(made), str(root)], "dpkg-deb")
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0\n", f"Version: {NEWER}\n"))
    (code,) = root.glob("usr/lib/l3net/lib/python3*/site-packages/l3net/__init__.py")
    assert '__version__ = "0.1.0"' in code.read_text()
    code.write_text(code.read_text().replace('"0.1.0"', f'"{NEWER}"'))
    for compiled in (code.parent / "__pycache__").glob("__init__.*.pyc"):
        compiled.unlink()  # nobody would look whether it is of this source
    again = to / f"l3net_{NEWER}.deb"
    _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(again)], "dpkg-deb")
    return again


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The default lab; all of its routers run, none of its nodes does."""
    name = f"p{uuid.uuid4().hex[:8]}"
    source = read_source(None, RouterKind.FRR)
    try:
        directory = state.create(name, source)
        there = Lab(name, source.topology(), directory, make_hosts(name, source.topology(), directory))
        wire(there)
        for router in there.topology.routers:
            start_router(there.topology, there.host(router.name))
        start_server(there.host("client"), "client")
        yield there
    finally:
        take_down(name)


class Seen:
    """The node as others see it, and as its own shell does."""

    def __init__(self, lab: Lab, shell: SerialShell) -> None:
        self.lab, self.shell = lab, shell

    def on(self, command: str, seconds: float = 600) -> str:
        """What a command on the node says; it must succeed."""
        code, said = self.shell.execute(command, seconds)
        assert code == 0, f"{command}: {code}\n{said[-3000:]}"
        return said

    def boot(self) -> str:
        """Which boot this is; empty where nobody answers, since it goes down or comes up."""
        with suppress(LabError):
            self.shell.connect(60)
            return self.shell.execute("cat /proc/sys/kernel/random/boot_id", 60)[1].strip()
        return ""

    def vtysh(self, command: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            self.lab.host(ROUTER).run(["vtysh", "-c", f"{command} json"]).stdout
        )
        return found

    def neighbour(self, version: int) -> dict[str, object]:
        address = OWN[version][0]
        found = self.vtysh(f"show bgp neighbors {address}")[address]
        assert isinstance(found, dict)
        return found

    def established(self) -> bool:
        return all(self.neighbour(version)["bgpState"] == "Established" for version in OWN)

    def sessions(self) -> list[object]:
        """How many sessions there have been, for each family."""
        return [self.neighbour(version)["connectionsEstablished"] for version in OWN]

    def block(self, version: int) -> dict[str, object]:
        """The path of the node's block on its router; empty if there is none."""
        kind = f"ipv{version}"
        return self.vtysh(f"show bgp {kind} {OWN[version][1]}")

    def heard(self) -> bool:
        return all(self.block(version).get("paths") for version in OWN)

    def tagged(self) -> bool:
        return all("gracefulShutdown" in json.dumps(self.block(version)) for version in OWN)

    def properties(self, name: str) -> list[str]:
        """A property of each unit, in their order."""
        units = " ".join(UNITS)
        return self.on(f"systemctl show --property {name} --value {units}").split()


def until(what: str, true: Callable[[], bool], seconds: float = 1800) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


def disk_of(tmp_path: Path) -> Path:
    """Both packages, what is declared, and the machine's network, as a disk."""
    content, image = tmp_path / "content", tmp_path / "content.ext4"
    content.mkdir()
    made = package(TREE, tmp_path / "one")
    shutil.copy(made, content / "one.deb")
    shutil.copy(newer(made, tmp_path / "two"), content / "two.deb")
    (content / "10-tor1.link").write_text(LINK)
    (content / "10-tor1.network").write_text(NETWORK)
    (content / "there.sh").write_text(THERE + "\n")
    for path, text in machine_files(read_source(None)).items():
        if path.startswith("plain/"):
            (content / Path(path).name).write_text(text)
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(content), str(image), "768M"], "mke2fs")
    return image


def test_the_package_under_systemd(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()

    def done(what: str) -> None:
        nonlocal start
        with capsys.disabled():
            print(f"  {time.monotonic() - start:6.1f} s  {what}", flush=True)  # noqa: T201
        start = time.monotonic()

    disk, content = vm_disk(), disk_of(tmp_path)
    done("two builds of the package, and the disk")
    place = lab.host(NODE)
    shell = SerialShell(NODE, place.directory / "shell.sock")
    console = place.directory / "console.log"
    place.spawn("machine", qemu(disk, content, console, shell.path, taps(lab, place), memory=1024))
    node = Seen(lab, shell)
    try:
        shell.connect(1200)
        done("the machine has booted (qemu, TCG, one CPU)")
        steps(node, done)
    except BaseException:
        with capsys.disabled():
            print(console.read_text(errors="replace")[-3000:], place.read_log("machine")[-1000:])  # noqa: T201
        raise


def steps(node: Seen, done: Callable[[str], None]) -> None:
    """Installed, used, upgraded, started again, purged."""
    node.on(
        f"echo {NODE} >/etc/hostname; hostname {NODE}; cp /vagrant/10-tor1.link /vagrant/10-tor1.network"
        " /etc/systemd/network/; ip link set eth0 down; ip link set eth0 name tor1;"
        " systemctl -q enable --now systemd-networkd"
    )
    there = "networkctl status tor1 | grep -q configured && ip -br address show dev tor1 | grep -q fd00:"
    until("the machine's network", lambda: node.shell.execute(there, 300)[0] == 0)
    node.on("systemctl is-system-running --wait")
    node.on("sh /vagrant/there.sh >/var/log/before")  # /tmp does not outlive a boot
    done("systemd-networkd has the machine's network")
    node.on("apt-get install -q -y /vagrant/one.deb 2>&1", 1800)
    installed(node)
    done("installed by apt: nothing runs, nothing is enabled, systemd takes the units")
    node.on("install -m 600 /vagrant/*.yaml /etc/l3net/manifests/; l3net cni install --no-conf")
    node.on(f"systemctl -q enable --now {' '.join(UNITS)}")
    until("sessions", lambda: node.established() and node.heard())
    assert node.properties("ActiveState") == ["active"] * len(UNITS)
    done("enabled and started: the router has sessions of both families, and the blocks")
    reached(node)
    journal(node)
    done("the client reaches the node; the journal has priorities, and no time twice")
    networkd_starts_again(node)
    done("systemd-networkd has started again, and left l3net's routes alone")
    ends_often(node)
    done("agent and BFD, killed eight times at once, run")
    upgraded(node)
    done(
        "upgraded: the agent is another, speaker and sessions are the same, no packet of the client was lost"
    )
    rebooted(node)
    done("rebooted: the router was told before, and has everything back")
    node.on("apt-get purge -q -y l3net 2>&1", 1800)
    assert not node.heard()
    # There: the list is long, and a serial line slow.
    left = node.on(
        "sh /vagrant/there.sh >/var/log/after; wc -l </var/log/after;"
        " grep -vxF -f /var/log/before /var/log/after || true"
    ).split("\n")
    assert int(left[0]) > 5000 and not [line for line in left[1:] if line], "\n".join(left[:40])
    done("purged: no file, unit, process, route, link, table is left, and the router had been told")


def installed(node: Seen) -> None:
    units = " ".join(f"{unit}.service" for unit in (*UNITS, "l3net-glass"))
    asked = node.shell.execute(f"systemctl is-enabled {units}; systemctl is-active {units}", 120)[1].split()
    assert asked == ["disabled"] * 5 + ["inactive"] * 5
    # There is no man in this machine, which would be all that it says.
    verified = node.shell.execute(f"systemd-analyze verify {units} 2>&1", 300)[1].splitlines()
    assert [line for line in verified if "Command 'man " not in line] == []
    assert node.on("dpkg -V l3net") == ""


def reached(node: Seen) -> None:
    """The client, which is behind two routers, reaches the node's own address in its block."""
    for _, _, address in OWN.values():
        node.lab.host("client").run(["ping", "-q", "-c", "3", "-W", "5", address])


def journal(node: Seen) -> None:
    text = node.on("journalctl -b -o json -u l3net-agent -u l3net-bfd -u l3net-speaker", 120)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    own = [line for line in lines if line.get("_COMM") in ("l3net", "python") and line["SYSLOG_IDENTIFIER"]]
    told = [(line["PRIORITY"], line["MESSAGE"]) for line in own if line["MESSAGE"].startswith("l3net.")]
    assert {"l3net.agent", "l3net.bfd", "l3net.speaker"} <= {text.split(":")[0] for _, text in told}
    assert {"4", "6"} <= {priority for priority, _ in told}
    assert not [line for line in lines if re.match(r"\d{4}-\d\d-\d\d ", line["MESSAGE"])]


def networkd_starts_again(node: Seen) -> None:
    said = node.on(
        "ip monitor route >/tmp/routes & sleep 3; ip route add 192.0.2.1 dev lo;"
        " ip route del 192.0.2.1 dev lo; systemctl restart systemd-networkd; networkctl -q reload; sleep 5;"
        " networkctl status tor1 | grep State;"
        " kill $!; cat /tmp/routes; rm /tmp/routes"
    )
    assert "configured" in said and "Deleted 192.0.2.1" in said  # it does see what goes
    assert not re.search(r"Deleted .* proto 108", said), said


def ends_often(node: Seen) -> None:
    for unit in ("l3net-bfd", "l3net-agent"):
        restarts = int(node.on(f"systemctl show --property NRestarts --value {unit}"))
        node.on(
            f"for i in 1 2 3 4 5 6 7 8; do until systemctl -q is-active {unit}; do sleep 0.1; done;"
            f" systemctl kill --signal=KILL {unit}; until systemctl -q is-active {unit}; do sleep 0.1;"
            f" systemctl -q is-failed {unit} && exit 1; done; done; true"
        )
        assert int(node.on(f"systemctl show --property NRestarts --value {unit}")) - restarts == 8
    until("the agent is ready", lambda: node.shell.execute("l3net status --ready", 120)[0] == 0)


def upgraded(node: Seen) -> None:
    process, sessions = node.properties("MainPID"), node.sessions()
    client = node.lab.host("client")
    for version, (_, _, address) in OWN.items():
        client.spawn(f"ping{version}", ["ping", "-q", "-i", "0.2", address])
    node.on("apt-get install -q -y /vagrant/two.deb 2>&1", 1800)
    until("the new agent", lambda: node.shell.execute("l3net status --ready", 120)[0] == 0)
    told = json.loads(node.on("l3net version --all -o json"))
    for version in OWN:
        client.kill(f"ping{version}", 2)
        until("ping ends", lambda v=version: not client.alive(f"ping{v}"), 30)  # type: ignore[misc]
        assert " 0% packet loss" in client.read_log(f"ping{version}"), client.read_log(f"ping{version}")
    now = node.properties("MainPID")
    assert [old == new for old, new in zip(process, now, strict=True)] == [True, False, True, True]
    assert node.sessions() == sessions and node.established()
    text = json.dumps(told)
    assert NEWER in text and "0.1.0" in text, text  # the speaker's, until it is started again


def rebooted(node: Seen) -> None:
    sessions = node.sessions()
    before = node.boot()
    node.shell.execute("(sleep 1; systemctl reboot) >/dev/null 2>&1 & true", 60)
    until("tagged for graceful shutdown", node.tagged)
    # A session that is only lost leaves stale paths for the restart time.
    until("withdrawn", lambda: not any(node.block(version).get("paths") for version in OWN))
    until("closed", lambda: not node.established())
    until("another boot", lambda: node.boot() not in ("", before))
    until("sessions", lambda: node.established() and node.heard() and not node.tagged())
    until("leave", lambda: node.properties("ActiveState") == ["active"] * len(UNITS))
    assert node.sessions() != sessions
    assert node.shell.execute("systemctl is-system-running --wait", 600)[1].strip() == "running"
