"""Conditions and Events on objects that cannot be used, through the API and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import random
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from controller_rig import Always, Running, until
from kube_follower import configuration, own, peer

from l3net.controller.decide import Settings
from l3net.controller.verdicts import Verdicts
from l3net.errors import ConflictError, GoneError, L3netError, ManifestError
from l3net.model import Kind, ObjectName
from l3net.shell.kubernetes.kinds import KINDS

STATUS = Call("patch", "l3net.io", "bgppeers", "status")
WRONG = ManifestError("spec.gtsm", "excludes multihop")
TOR = ObjectName("", "tor")


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        server.put(configuration(), peer("good"), peer("tor", gtsm=True, multihop=3))
        yield server


@pytest.fixture
def running(api: FakeApiServer, tmp_path: Path) -> Iterator[Running]:
    found = Running(api, tmp_path, "one", settings=Settings())
    try:
        yield found
    finally:
        found.stop()


def accepted(api: FakeApiServer, name: str, kind: str = "BGPPeer") -> dict[str, Any]:
    document = api.get(kind, name) or {}
    conditions = (document.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == "Accepted"), {})


def test_a_condition_and_an_event(api: FakeApiServer, running: Running) -> None:
    until(lambda: accepted(api, "tor"), "the condition")
    condition = accepted(api, "tor")
    assert (condition["status"], condition["reason"]) == ("False", "Invalid")
    assert "spec.gtsm" in condition["message"]
    assert condition["observedGeneration"] == 1
    until(lambda: api.objects("Event"), "the Event")
    (event,) = api.objects("Event")
    assert event["involvedObject"]["name"] == "tor"
    assert event["message"] == condition["message"]
    assert accepted(api, "good") == {}, "nothing is written about what is right"


def test_mended_is_said_and_a_stranger_is_not_touched(api: FakeApiServer, running: Running) -> None:
    until(lambda: accepted(api, "tor"), "the condition")
    mended = api.get("BGPPeer", "tor") or {}
    mended["spec"].pop("multihop")
    mended["status"]["conditions"].append({"type": "Other", "status": "True"})
    api.put(mended)
    until(lambda: accepted(api, "tor").get("status") == "True", "it to be well")
    found = api.get("BGPPeer", "tor") or {}
    assert {each["type"] for each in found["status"]["conditions"]} == {"Accepted", "Other"}


def test_every_kind_of_ours(api: FakeApiServer, running: Running) -> None:
    api.put(
        own("BGPFilter", "f", export=[{"action": "Accept", "cidr": "10.0.0.1/8"}]),
        own("IPPool", "p", cidr="224.0.0.0/8"),
        configuration(holdTime=2),
    )
    for kind, name in (("BGPFilter", "f"), ("IPPool", "p"), ("BGPConfiguration", "default")):
        until(lambda kind=kind, name=name: accepted(api, name, kind).get("status") == "False", kind)


def test_what_is_known_is_not_written_again(api: FakeApiServer, tmp_path: Path) -> None:
    first = Running(api, tmp_path, "one", settings=Settings(), election=Always)
    until(lambda: accepted(api, "tor") and api.objects("Event"), "the condition")
    first.stop()
    written = api.calls[STATUS]
    second = Running(api, tmp_path, "two", settings=Settings(), election=Always)
    try:
        api.put(peer("other", gtsm=True, multihop=3))
        until(lambda: accepted(api, "other"), "the control")
    finally:
        second.stop()
    assert api.calls[STATUS] == written + 1


# --- one by one ------------------------------------------------------------------------------------------


class Writer:
    """Notes what is written; `error` is raised for a name."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bool]] = []
        self.events: list[str] = []
        self.errors: dict[str, L3netError] = {}

    def set_status(self, kind: Kind, name: ObjectName, fields: Any, conditions: Any) -> None:
        if name.name in self.errors:
            raise self.errors[name.name]
        self.written.append((name.name, conditions[0].holds))

    def post_event(self, kind: Kind, name: ObjectName, reason: str, message: str) -> None:
        self.events.append(name.name)


def minutes() -> Callable[[], float]:
    """A clock by which a minute passes between two looks."""
    return count(0.0, 60.0).__next__


def judge(verdicts: Verdicts, name: str, error: ManifestError | None, **status: object) -> None:
    verdicts.judge(KINDS[Kind.BGP_PEER], ObjectName("", name), {"status": status}, error)


def test_only_the_leader_writes() -> None:
    writer = Writer()
    leading = False
    verdicts = Verdicts(writer, lambda: leading, minutes(), random)  # type: ignore[arg-type]
    judge(verdicts, "tor", WRONG)
    verdicts.write()
    assert writer.written == []
    leading = True
    verdicts.write()
    verdicts.write()
    assert (writer.written, writer.events) == ([("tor", False)], ["tor"])


@pytest.mark.parametrize("error", [ConflictError("x"), L3netError("x")])
def test_what_fails_is_tried_again_and_holds_up_nothing(error: L3netError) -> None:
    writer = Writer()
    verdicts = Verdicts(writer, lambda: True, minutes(), random)  # type: ignore[arg-type]
    names = [f"p{number}" for number in range(25)]
    writer.errors = dict.fromkeys(names[:12], error)
    for name in names:
        judge(verdicts, name, WRONG)
    for _ in range(10):
        verdicts.write()
    assert {name for name, _ in writer.written} == set(names[12:])
    writer.errors.clear()
    for _ in range(3):
        verdicts.write()
    assert {name for name, _ in writer.written} == set(names)


def test_deleted_and_mended_meanwhile_are_not_written() -> None:
    writer = Writer()
    verdicts = Verdicts(writer, lambda: True, minutes(), random)  # type: ignore[arg-type]
    writer.errors["gone"] = GoneError("x")
    judge(verdicts, "gone", WRONG)
    judge(verdicts, "mended", WRONG)
    judge(verdicts, "mended", None)
    judge(verdicts, "odd", None, conditions="no list")
    verdicts.write()
    writer.errors.clear()
    verdicts.write()
    assert writer.written == []
