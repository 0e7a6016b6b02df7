"""What nobody foresaw ends no task: it is noted, what it concerns is set aside, the rest goes on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_shells import agent as agent_of
from agent_shells import speaker
from bgp_facts import path, session
from simloop import simulate

from l3net.agent import announcing, following, supervising
from l3net.agent.speaker.speaking import Speaking
from l3net.agent.supervising import Retry, kept_up
from l3net.bgp.events import Updated
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import gathered
from l3net.bgp.sessions import Session, Unusable, sessions, unnumbered_interfaces
from l3net.bgp.verdict import ACCEPTED
from l3net.errors import ConfigError
from l3net.faults import Faults
from l3net.model import BgpPeer, ClusterState, Kind, Node, ObjectName
from l3net.ports import Changed, DatastoreEvent, InSync


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "FIRST", 0.001)
    monkeypatch.setattr(supervising, "LONGEST", 0.004)


@pytest.mark.usefixtures("quick")
def test_a_task_that_fails_is_begun_anew_and_counted() -> None:
    faults, runs = Faults(), itertools.count(1)

    async def work() -> None:
        if next(runs) < 4:
            raise ZeroDivisionError("of nobody's making")

    asyncio.run(kept_up("work", work, faults))
    (fault,) = faults.found()
    assert (fault.part, fault.count, fault.last) == ("work", 3, "ZeroDivisionError: of nobody's making")
    assert next(runs) == 5


def test_what_the_user_alone_can_mend_ends_it() -> None:
    async def work() -> None:
        raise ConfigError("--metrics-address: in use")

    with pytest.raises(ConfigError):
        asyncio.run(kept_up("work", work, Faults()))


def test_each_is_tried_by_itself_once_at_a_time_and_later_each_time() -> None:
    """Twenty failures were twenty retries, each of which made one more, for ever; and one part that failed
    for long had every other wait as long."""

    async def fail_often() -> tuple[list[tuple[float, tuple[str, ...]]], float]:
        now = asyncio.get_running_loop().time
        start, tried = now(), list[tuple[float, tuple[str, ...]]]()

        def again(parts: Sequence[str]) -> None:
            tried.append((now() - start, tuple(parts)))
            for part in parts:
                for _ in range(20):
                    retry.failed(part)

        retry = Retry(again)
        for _ in range(20):
            retry.failed("bridge")
        await asyncio.sleep(100)
        retry.failed("peer x")
        await asyncio.sleep(1.5)
        retry.succeeded("bridge")
        retry.only("peer ", [])
        last = len(tried)
        await asyncio.sleep(1000)
        assert len(tried) == last, "nothing is left to try"
        return tried, now() - start

    tried, _ = simulate(fail_often())
    bridge = [when for when, parts in tried if "bridge" in parts]
    assert [round(when) for when in bridge] == [1, 3, 7, 15, 31, 61, 91]
    assert [round(when) for when, parts in tried if "peer x" in parts] == [101]


def test_one_message_that_nobody_can_handle_costs_no_other(tmp_path: Path) -> None:
    async def told() -> tuple[int, list[str]]:
        faults = Faults()
        one = session()
        rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        speaking = Speaking(speaker(tmp_path), rib, lambda _prefixes: None, faults)
        speaking.set_sessions({one.peer_address: one})
        bad: Any = Updated(one.peer_address, None, ())  # type: ignore[arg-type]
        good = Updated(one.peer_address, tuple(gathered([path("192.168.7.0/24")])), ())
        speaking.hearing.heard([bad, good])
        return len(rib.received(one.peer_address)), [fault.part for fault in faults.found()]

    assert asyncio.run(told()) == (1, ["speaker: Updated"])


def node(name: str) -> Changed:
    return Changed(Kind.NODE, ObjectName("", name), Node(name))


class Fickle:
    """A datastore whose first run fails after some objects, and that knows one less in the second."""

    def __init__(self) -> None:
        self.runs = 0
        self.settled = asyncio.Event()

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        self.runs += 1
        yield node("n1")
        yield node("bad")
        if self.runs == 1:
            yield node("gone")
            yield InSync()
            raise RuntimeError("lost")
        yield node("n2")
        yield InSync()
        self.settled.set()
        await asyncio.Event().wait()


@pytest.mark.usefixtures("quick")
def test_a_datastore_that_fails_is_opened_again_and_what_went_meanwhile_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = following.take

    def take(state: ClusterState, event: Changed) -> None:
        if event.name.name == "bad":
            raise ZeroDivisionError
        took(state, event)

    monkeypatch.setattr(following, "take", take)

    async def follow() -> tuple[set[str], set[str]]:
        store = Fickle()
        agent = agent_of(tmp_path, store)
        running = asyncio.create_task(kept_up("declared state", agent.declared.run, agent.faults))
        await asyncio.wait_for(store.settled.wait(), 10)
        running.cancel()
        return set(agent.state.nodes), {fault.part for fault in agent.faults.found()}

    assert asyncio.run(follow()) == ({"n1", "n2"}, {"declared state", "declared state: Node bad"})


def test_what_fails_for_one_peer_costs_no_other_its_announcements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = session(name="bad"), session("10.0.0.3", name="good")

    def desired(_view: object, one: Session, *_rest: object) -> dict[object, object]:
        if one.name == "bad":
            raise ZeroDivisionError
        return {}

    monkeypatch.setattr(announcing, "desired", desired)

    async def announce() -> tuple[list[object], list[str]]:
        agent = agent_of(tmp_path, Fickle())
        agent.announcing.follow({each.peer_address: each for each in (bad, good)})
        agent.announcing.announce(agent.state)
        return list(agent.speaking.peers.wants), [fault.part for fault in agent.faults.found()]

    assert asyncio.run(announce()) == ([good.peer_address], [f"announcements to bad ({bad.peer_address})"])


def test_faults_of_an_object_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is removed leaves no `announcements to`, nor does an object that was never taken."""
    took = following.take

    def take(state: ClusterState, event: Changed) -> None:
        if event.name.name == "bad" and event.fact is not None:
            raise ZeroDivisionError
        took(state, event)

    monkeypatch.setattr(following, "take", take)
    monkeypatch.setattr(announcing, "desired", lambda *_args, **_kw: 1 // 0)

    class Store:
        async def events(self) -> AsyncIterator[DatastoreEvent]:
            yield node("bad")
            yield node("worse")
            yield Changed(Kind.NODE, ObjectName("", "bad"), None)
            yield InSync()

    async def told() -> list[set[str]]:
        agent = agent_of(tmp_path, Store())
        one, other = session(name="tor"), session("fd00::3", name="tor")
        found = []
        for there in ((one, other), (one,), ()):
            agent.announcing.follow({each.peer_address: each for each in there})
            agent.announcing.announce(agent.state)
            found.append({fault.part for fault in agent.faults.found()})
        await agent.declared.run()
        return [*found, {fault.part for fault in agent.faults.found()}]

    first = "announcements to tor (10.0.0.1)"
    assert asyncio.run(told()) == [{first, "announcements to tor (fd00::3)"}, {first}, set(), set()]


def test_an_interface_with_a_zero_byte_is_refused_by_name() -> None:
    """Its look-up raises what no other bad name does."""
    state = ClusterState()
    state.nodes["n1"] = Node("n1")
    state.peers["bad"] = BgpPeer("bad", interface="a\0b")
    assert unnumbered_interfaces(state, "n1") == frozenset()
    found = sessions(state, "n1", lambda _address: None)
    assert [each.reason for each in found.refusals] == [Unusable.BAD_INTERFACE]
