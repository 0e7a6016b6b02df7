"""Shared by all tests: builders beside a test file can be imported by name."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with other tests fails none for it.
settings.register_profile("l3net", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("l3net")

# With it each agent that a test starts would compile all of l3net: twice the time of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

for room in sorted([*Path(__file__).parent.iterdir(), *(Path(__file__).parent / "simulated").iterdir()]):
    if room.is_dir() and not room.name.startswith("__"):
        sys.path.insert(0, str(room))

import printed_json  # noqa: E402 - found by the path above
from command_schemas import faults  # noqa: E402

printed_json.install()

from node_rig import Rig, brought_up  # noqa: E402
from realapi import RealApiServer, real_api_server  # noqa: E402

from l3net.lab import host as lab_host  # noqa: E402
from l3net.naming import RUN_DIR, STATE_DIR  # noqa: E402

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest, and waits most of it, begins before all others, lest all wait for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(scope="session", autouse=True)
def _printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where JSON is written down that commands print, those in hosts of a lab too."""
    place = tmp_path_factory.mktemp("printed")
    paths = [str(Path(__file__).parent / "recorded"), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = {printed_json.PLACE: str(place), "PYTHONPATH": os.pathsep.join(paths)}
    plain = lab_host._environment
    with pytest.MonkeyPatch.context() as patch:
        for name, value in more.items():
            patch.setenv(name, value)
        patch.setattr(lab_host, "_environment", lambda: {**plain(), **more})
        yield place


@pytest.fixture(autouse=True)
def _as_promised(request: pytest.FixtureRequest, _printed: Path) -> Iterator[None]:
    """What the test's commands have printed is as their schemas say."""
    yield
    wrong = []
    for file in sorted(_printed.glob("*.json")):
        if request.node.get_closest_marker("foreign_answers") is None and (why := faults(file)):
            wrong.append(why)
        file.unlink()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def own_netns() -> Iterator[Callable[[str], str]]:
    """The test thread in a fresh network namespace, gone with the test; the callable runs `ip ...` there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        os.close(home)
        pytest.skip("needs root")

    def ip(arguments: str) -> str:
        done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=True)
        return done.stdout

    try:
        ip("link set lo up")
        yield ip
    finally:
        if _libc.setns(home, _CLONE_NEWNET) != 0:
            os._exit(70)  # a test process that cannot leave its namespace must not go on
        os.close(home)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A node and a router on one link, each a host of its own, nothing started yet."""
    with brought_up(Rig()) as made:
        yield made


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    """A real kube-apiserver, one for all tests of a worker, each of which wipes it first."""
    with real_api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


#: Properties a test records (record_property) that are counts for the report; those of a name are added up.
COUNTS = {
    "injections": "system calls failed or killed at, one a run",
    "failed": "of those, runs that the fault made fail",
    "kills": "agents killed in the midst of calls",
    "audited": "looks afterwards for leases, interfaces and spool files left behind",
}


def _held(directory: Path) -> list[str]:
    """What is in a directory; nothing where there is none."""
    return sorted(map(str, directory.iterdir())) if directory.is_dir() else []


#: What l3net has on a host: no test leaves anything in it on this machine. Hosts of a lab have their own
#: mounted there, so that the directories themselves may be.
OF_A_HOST = [path for name in (STATE_DIR, RUN_DIR) if not _held(path := Path(name))]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if any(map(_held, OF_A_HOST)) and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have left on this machine; why some were tried again; what the fault tests counted, so that
    a sweep that swept nothing is seen."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.line("\n".join(report.longreprtext.splitlines()[-40:]))
    for path in OF_A_HOST:
        if left := _held(path):
            terminalreporter.line(f"a test has left on this machine: {', '.join(left)}", red=True)
    totals: dict[str, int] = {}
    tests = failures = 0
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        counted = [(name, value) for name, value in report.user_properties if name in COUNTS]
        if report.when != "call" or not counted:
            continue
        tests += 1
        failures += report.failed
        for name, value in counted:
            totals[name] = totals.get(name, 0) + int(str(value))
    if totals:
        terminalreporter.section("faults injected")
        terminalreporter.line(f"{tests:7d}  tests that inject faults")
        for name, meaning in COUNTS.items():
            if name in totals:
                terminalreporter.line(f"{totals[name]:7d}  {meaning}")
        terminalreporter.line(f"{failures:7d}  of the tests found something left or broken")
