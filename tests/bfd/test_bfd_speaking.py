"""What BFD's failure does to a peer's paths and session, and when it is none (RFC 5882 section 4.3)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_shells import speaker
from bgp_facts import path, session

from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.events import EndOfRib, Opened, StateChanged, Updated
from l3net.bgp.exabgp.messages import Done, Neighbors
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import gathered
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family

SESSION = session()
PEER = SESSION.peer_address
LEARNED = path("192.168.7.0/24")
OURS = path("10.244.1.0/24", "10.0.0.2")


class Link:
    """Takes every line, as the relay does."""

    up = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def send_line(self, line: str) -> None:
        self.lines.append(line)


class World:
    def __init__(self, directory: Path) -> None:
        self.rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        self.speaking = Speaking(speaker(directory), self.rib, lambda _prefixes: None)
        self.link = Link()
        self.speaking._dialogue.link = self.link  # type: ignore[assignment]
        self.speaking.set_sessions({PEER: SESSION})
        self.drain()
        offered = Opened(PEER, 9, "10.0.0.1", 120, preserved=frozenset({Family.IPV4}))
        self.handle(offered, StateChanged(PEER, "up"))
        self.handle(Updated(PEER, tuple(gathered([LEARNED])), ()), EndOfRib(PEER, Family.IPV4))
        self.speaking.want(PEER, {OURS.prefix: OURS})
        self.speaking.flush()
        self.drain()
        assert self.learned

    def handle(self, *messages: object) -> None:
        for message in messages:
            self.speaking.hearing.handle(message)  # type: ignore[arg-type]

    def drain(self) -> None:
        """ExaBGP answers all that was sent."""
        answered = 0
        while answered < len(self.link.lines):
            answered += 1
            self.handle(Done())
            self.speaking.flush()

    @property
    def learned(self) -> bool:
        return bool(self.rib.received(PEER))


@pytest.mark.parametrize("shares_fate", [True, False])
def test_a_failure_takes_the_paths_withdraws_ours_and_closes_the_session(
    tmp_path: Path, shares_fate: bool
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.link.lines.clear()
        world.speaking.peers.path_failed(PEER, "BFD down", shares_fate)
        assert not world.learned
        assert world.speaking.peers[PEER].reason == "BFD down"
        world.drain()
        await asyncio.sleep(0.4)
        withdrawn, closed = [line for line in world.link.lines if "show" not in line]
        start = "neighbor 10.0.0.1 withdraw attributes"
        assert withdrawn == f"{start} next-hop 10.0.0.2 origin igp nlri 10.244.1.0/24"
        assert closed == "neighbor 10.0.0.1 teardown 10"
        world.handle(Updated(PEER, tuple(gathered([LEARNED])), ()))  # was on its way
        assert not world.learned
        world.handle(StateChanged(PEER, "down", "closing"), StateChanged(PEER, "up"))
        world.handle(Updated(PEER, tuple(gathered([LEARNED])), ()))  # afresh: counts without BFD
        assert world.learned

    asyncio.run(scenario())


def test_a_lost_echo_is_not_disproved_by_bgp(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.speaking.peers.path_failed(PEER, "BFD down: echoFailed", False)
        world.speaking.peers.path_held(PEER, True)
        assert world.speaking._wanted_sessions() == {}
        world.handle(StateChanged(PEER, "down", "closing"), StateChanged(PEER, "up"))
        world.handle(Updated(PEER, tuple(gathered([LEARNED])), ()))
        assert not world.learned
        assert not world.speaking.peers[PEER].established
        assert world.speaking.peers[PEER].reason == "BFD down: held down until echo works"
        world.speaking.peers.path_recovered(PEER)
        world.speaking.peers.path_held(PEER, False)
        assert world.speaking._wanted_sessions() == {PEER: SESSION}
        world.handle(StateChanged(PEER, "down", "closing"), StateChanged(PEER, "up"))
        world.handle(Updated(PEER, tuple(gathered([LEARNED])), ()))
        assert world.learned

    asyncio.run(scenario())


@pytest.mark.parametrize("shares_fate", [True, False])
def test_while_the_peer_restarts_only_a_bfd_of_its_own_fate_counts(tmp_path: Path, shares_fate: bool) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.handle(StateChanged(PEER, "down", "peer went away"))
        assert world.learned, "kept for the restart (RFC 4724)"
        world.speaking.peers.path_failed(PEER, "BFD down", shares_fate)
        assert world.learned is shares_fate

    asyncio.run(scenario())


def test_while_our_speaker_restarts_every_failure_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.speaking._dialogue._lost()
        assert world.learned
        world.speaking.peers.path_failed(PEER, "BFD down", True)
        assert not world.learned

    asyncio.run(scenario())


def test_a_session_found_over_a_failed_path_is_closed(tmp_path: Path) -> None:
    """An agent that starts, or a speaker found again, after the failure."""

    async def scenario() -> None:
        world = World(tmp_path)
        world.speaking._dialogue._lost()
        world.speaking.peers.path_failed(PEER, "BFD down", False)
        world.link.lines.clear()
        world.speaking.learn_neighbours([Neighbors({PEER: True})])
        world.speaking.flush()
        world.drain()
        await asyncio.sleep(0.4)
        assert not world.speaking.peers[PEER].established
        assert any(line.endswith("teardown 10") for line in world.link.lines)

    asyncio.run(scenario())
