"""Hosts and fabric with the real kernel: up, reach, down, and down after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from l3net.cli.lab import lab as command
from l3net.errors import ConfigError
from l3net.lab import state
from l3net.lab.errors import LabError, NoLabError
from l3net.lab.host import find_holders
from l3net.lab.state import TopologySource
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, bring_up, open_lab, take_down
from l3net.lab.wait import until

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FABRIC = yaml.safe_dump(
    {
        "routers": [{"name": "spine", "asNumber": 65000}, {"name": "tor", "asNumber": 65001}],
        "clients": [{"name": "client"}, {"name": "other"}],
        "links": [
            {"between": ["spine", "client"]},
            {"between": ["spine", "tor"]},
            {"between": ["tor", "other"]},
            {"between": ["tor", "other"]},
        ],
    }
)


def _quiet(what: str) -> None:
    pass


@pytest.fixture
def name() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    take_down(name)


def _root_links() -> list[str]:
    return sorted(p.name for p in Path("/sys/class/net").iterdir())


def _mounts(name: str) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]


def assert_nothing_left(name: str) -> None:
    # A holder that was being started when its starter was killed ends by itself, a moment later.
    until(lambda: find_holders(name) == {}, 10, f"hosts are left: {find_holders(name)}")
    assert not state.lab_directory(name).exists()
    assert _mounts(name) == []


@pytest.mark.parametrize("kind", [kind for kind in RouterKind if kind is not RouterKind.L3NET])
def test_the_fabric_carries_packets_and_goes_without_a_trace(name: str, kind: RouterKind) -> None:
    before = _root_links()
    lab = bring_up(name, TopologySource(FABRIC, "fabric", kind), _quiet)
    assert _root_links() == before
    client = lab.host("client")
    for version in (4, 6):
        target = str(lab.topology.address("other", version))

        def reaches(target: str = target) -> bool:
            return client.run(["ping", "-c1", "-W1", target], check=False).code == 0

        until(reaches, 60, f"{target} is not reached: {lab.host('spine').run(['ip', 'route']).stdout}")
    if kind in (RouterKind.GOBGP, RouterKind.OPENBGPD):
        _routes_come_back(lab)
    # The control: without the link between the routers nothing is reached.
    lab.host("tor").run(["ip", "link", "set", "spine", "down"])
    assert client.run(["ping", "-c1", "-W1", str(lab.topology.address("other", 4))], check=False).code != 0
    assert take_down(name) == 4
    assert_nothing_left(name)
    assert _root_links() == before


def _routes_come_back(lab: Lab) -> None:
    """What the kernel loses, as with a link that is down for a moment, the follower puts back."""
    host = lab.host("spine")
    for version in (4, 6):
        listing = ["ip", f"-{version}", "route", "show", "proto", "bgp"]
        before = host.run(listing).stdout
        assert before
        host.run(["ip", f"-{version}", "route", "flush", "proto", "bgp"])

        def back(listing: list[str] = listing, before: str = before) -> bool:
            return host.run(listing).stdout == before

        until(back, 20, f"IPv{version}: the routes do not come back")


def test_two_labs_live_side_by_side(name: str) -> None:
    other = f"{name}-b"
    source = TopologySource(FABRIC, "fabric", RouterKind.BIRD)
    try:
        first, second = bring_up(name, source, _quiet), bring_up(other, source, _quiet)
        assert first.host("tor").pid != second.host("tor").pid
        assert first.host("tor").run(["hostname"]).stdout.strip() == "tor"
        take_down(other)
        assert_nothing_left(other)
        assert open_lab(name).host("tor").run(["birdc", "show", "status"]).code == 0
    finally:
        take_down(other)


def test_a_second_lab_of_the_same_name_is_refused(name: str) -> None:
    source = TopologySource(FABRIC, "fabric", RouterKind.BIRD)
    bring_up(name, source, _quiet)
    with pytest.raises(LabError, match="already"):
        bring_up(name, source, _quiet)
    assert len(find_holders(name)) == 4


def _crash_at(name: str, condition: Callable[[], bool]) -> None:
    """Run `lab up` and kill it with SIGKILL as soon as the condition holds."""
    code = "from l3net.cli.lab import lab; lab()"
    process = subprocess.Popen([sys.executable, "-c", code, "up", "--name", name], stderr=subprocess.DEVNULL)
    try:
        until(lambda: condition() or process.poll() is not None, 30, "the moment never came", every=0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("moment", ["directory", "first host", "all hosts", "first daemon"])
def test_down_clears_up_after_a_crash(name: str, moment: str) -> None:
    directory = state.lab_directory(name)
    conditions: dict[str, Callable[[], bool]] = {
        "directory": directory.exists,
        "first host": lambda: len(find_holders(name)) >= 1,
        "all hosts": lambda: len(find_holders(name)) >= 7,
        "first daemon": lambda: any(directory.glob("*/*.pid")),
    }
    _crash_at(name, conditions[moment])
    take_down(name)
    assert_nothing_left(name)


def test_down_finds_the_hosts_when_the_files_are_lost(name: str) -> None:
    bring_up(name, TopologySource(FABRIC, "fabric", RouterKind.BIRD), _quiet)
    state.set_aside(name)
    state.remove_aside(name)
    assert len(find_holders(name)) == 4
    assert take_down(name) == 4
    assert find_holders(name) == {}


def test_killing_a_holder_kills_all_inside_and_is_told(name: str) -> None:
    lab = bring_up(name, TopologySource(FABRIC, "fabric", RouterKind.BIRD), _quiet)
    tor = lab.host("tor")
    inside = [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _same_pid_namespace(p, tor.pid)
    ]
    assert len(inside) >= 3
    os.kill(tor.pid, signal.SIGKILL)
    until(lambda: not any(_runs(pid) for pid in inside), 10, "processes of the host live on")
    with pytest.raises(LabError, match="lacks tor"):
        open_lab(name)


def _same_pid_namespace(entry: Path, holder: int) -> bool:
    try:
        return (entry / "ns/pid").readlink() == Path(f"/proc/{holder}/ns/pid").readlink()
    except OSError:
        return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_commands(name: str, tmp_path: Path) -> None:
    file = tmp_path / "fabric.yaml"
    file.write_text(FABRIC)

    def run(*argv: str) -> str:
        done = CliRunner().invoke(command, [*argv], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    run("up", str(file), "--name", name, "--router-kind", "bird")
    assert "bird AS 65001" in run("graph", "--name", name)
    code = "from l3net.cli.lab import lab; lab()"
    done = subprocess.run(
        [sys.executable, "-c", code, "exec", "--name", name, "tor", "--", "sh", "-c", "hostname; exit 7"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "tor\n")
    assert "4 hosts removed" in run("down", "--name", name)
    assert "nothing left" in run("down", "--name", name)


def test_a_lab_that_is_not_there_is_said_so(name: str) -> None:
    with pytest.raises(NoLabError, match="lab up"):
        open_lab(name)
    with pytest.raises(NoLabError, match="lab up"):  # and not the default one drawn in its stead
        CliRunner().invoke(command, ["graph", "--name", name], catch_exceptions=False)


@pytest.mark.parametrize("bad", ["", "../x", "UP", "a" * 40])
def test_names_that_would_leave_the_directory_are_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="not a lab's name"):
        take_down(bad)
