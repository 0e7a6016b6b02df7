"""Chaos in the lab: schedules that must pass, and the control, defects that must be found."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l3net.cli.lab_chaos import _check, _source, attempt
from l3net.lab.chaos import declared
from l3net.lab.chaos.catalogue import FAULTS, chosen
from l3net.lab.chaos.draw import drawn
from l3net.lab.chaos.ground import GO, STOP, Ground
from l3net.lab.chaos.report import Report
from l3net.lab.chaos.step import Schedule, Step, parsed
from l3net.lab.errors import LabError
from l3net.lab.manifests import Document
from l3net.lab.pods import find_plugin
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

KEPT = Path(__file__).parent / "chaos"
FIVE_MINUTES = KEPT / "five-minutes.yaml"
#: Seconds between probes of a path of it: many tests run beside it.
EVERY = 0.15
#: Kept since they once failed.
ONCE_FAILED = sorted(path for path in KEPT.glob("*.yaml") if path != FIVE_MINUTES)
_SOFTWARE = ("vtysh", "bird", "gobgpd", "bgpctl")


@pytest.fixture(autouse=True, scope="module")
def _able() -> None:
    search = os.environ["PATH"] + ":/usr/sbin"
    if missing := [name for name in _SOFTWARE if shutil.which(name, path=search) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    try:
        find_plugin()
    except LabError as err:
        pytest.skip(str(err))


def read(file: Path) -> Schedule:
    return parsed(file.read_text(), str(file), FAULTS)


def carried_out(schedule: Schedule, file: Path = FIVE_MINUTES) -> Report:
    source = _source(schedule, file)
    _check(schedule, source)
    return attempt(f"c{uuid.uuid4().hex[:8]}", source, schedule, {}, every=EVERY)


def told(report: Report) -> str:
    return "\n".join(f"{each.at} s: {each.what} ({', '.join(each.causes)})" for each in report.failures)


@pytest.mark.first
@pytest.mark.timeout(900)
def test_five_minutes_of_every_fault_cost_what_they_may_and_no_more() -> None:
    schedule = read(FIVE_MINUTES)
    topology = _source(schedule, FIVE_MINUTES).topology()
    possible = {name for name, fault in FAULTS.items() if fault.targets(topology) and fault.family != "clock"}
    assert schedule.seconds >= 300 and {step.fault for step in schedule.steps} == possible
    report = carried_out(schedule)
    assert report.ok, told(report)
    assert report.sent > 60_000 and report.lost < report.sent / 10


@contextmanager
def _deaf(ground: Ground, step: Step) -> Iterator[None]:
    """Routes of a node that no fault is at are flushed, and its agent does not hear of it."""
    ground.signal("n1", "agent", STOP)
    try:
        with FAULTS["routes-flushed"].act(ground, replace(step, target="n1")):
            yield
    finally:
        ground.signal("n1", "agent", GO)


@contextmanager
def _let_in(ground: Ground, _step: Step) -> Iterator[None]:
    """The policy goes that forbids."""
    fixed = declared.fixed_documents(ground.lab.topology)
    try:
        ground.declare("chaos.yaml", [each for each in fixed if each["kind"] != "NetworkPolicy"])
        yield
    finally:
        ground.declare("chaos.yaml", fixed)


@contextmanager
def _reset(ground: Ground, _step: Step) -> Iterator[None]:
    """A session that nobody was to touch."""
    ground.host("tor2").run(["birdc", "restart", "n2_ipv4"])
    yield


@contextmanager
def _leak(ground: Ground, step: Step) -> Iterator[None]:
    """A link that nobody takes away."""
    ground.host(step.target).run(["ip", "link", "add", "leaked0", "type", "veth", "peer", "name", "leaked1"])
    yield


def _without_grace(documents: list[Document], versions: tuple[int, ...]) -> list[Document]:
    found = _with_ranges(documents, versions)
    for document in found:
        spec = document["spec"]
        if document["kind"] == "BGPConfiguration" and isinstance(spec, dict):
            spec["gracefulRestart"] = {"enabled": False}
    return found


_with_ranges = declared.with_ranges


def planted(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[Ground, Step], AbstractContextManager[None]]
) -> None:
    """A defect in place of a fault that must cost nothing."""
    monkeypatch.setitem(FAULTS, name, replace(FAULTS[name], act=act))


def test_red_where_a_promise_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "foreign-tables", _deaf)
    planted(monkeypatch, "policies-change", _let_in)
    planted(monkeypatch, "router-refreshes", _reset)
    planted(monkeypatch, "foreign-bridges", _leak)
    monkeypatch.setattr(declared, "with_ranges", _without_grace)
    steps = (
        Step(2.0, "foreign-tables", "n2", 6.5),
        Step(9.0, "speaker-killed", "n1", 2.0),
        Step(9.2, "foreign-bridges", "n2", 1.0),
        Step(9.5, "router-refreshes", "tor2", 1.0),
        Step(10.0, "policies-change", "declared", 2.0),
    )
    report = carried_out(Schedule(1, 15, steps, read(FIVE_MINUTES).topology))
    said = told(report)
    for what, cause in (
        ("probes lost", "speaker-killed n1"),
        ("passed that are forbidden", "policies-change"),
        ("the session of tor2 with n2 went down, which no fault touched", "router-refreshes tor2"),
        ("n1: the route that backs", "foreign-tables n2"),
        ("left over: n2: links", ""),
    ):
        assert any(what in each.what and cause in str(each.causes) for each in report.failures), (what, said)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("file", ONCE_FAILED, ids=lambda path: path.stem)
def test_what_once_failed(file: Path) -> None:
    report = carried_out(read(file), file)
    assert report.ok, told(report)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(101, 104))
@pytest.mark.parametrize("kind", [None, RouterKind.BIRD, RouterKind.GOBGP, RouterKind.OPENBGPD])
def test_five_minutes_of_a_seed(kind: RouterKind | None, seed: int) -> None:
    source = read_source(None, kind)
    usable = [fault for fault in chosen() if not fault.missing()]
    schedule = drawn(seed, 300, usable, source.topology())
    report = attempt(f"c{uuid.uuid4().hex[:8]}", source, schedule, {})
    assert report.ok, told(report)
