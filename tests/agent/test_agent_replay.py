"""What the peers have said is asked of the speaker when the agent comes later than their sessions.

The speaker is played here; the real one stands in tests/interop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from agent_shells import speaker
from bgp_facts import path, session

from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.events import Attempted, Notified, Opened, StateChanged, Updated
from l3net.bgp.exabgp.messages import Done, Failed, Neighbors, Queue, Queues, ReplayBegan, ReplayEnded
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import gathered
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family

SESSION = session()
PEER = SESSION.peer_address
IPV4 = frozenset({Family.IPV4})
OPENED = Opened(PEER, 9, "10.0.0.1", 20, refresh=True, preserved=IPV4, forwarding=IPV4)
FIRST, SECOND = path("192.168.7.0/24"), path("192.168.8.0/24")
OURS = path("10.244.1.0/24", "10.0.0.2")


class Link:
    up = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def send_line(self, line: str) -> None:
        self.lines.append(line)


class World:
    """An agent that is connected, and finds the session up. `knows`: the speaker is of its release."""

    def __init__(self, directory: Path, *, knows: bool = True, opened: Opened = OPENED) -> None:
        self.rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        self.speaking = Speaking(speaker(directory), self.rib, lambda _prefixes: None)
        self.link = Link()
        self.speaking._dialogue.link = self.link  # type: ignore[assignment]
        self.knows = knows
        self.answered = 0
        self.speaking.set_sessions({PEER: SESSION})
        self.drain()
        self.speaking.learn_neighbours([Neighbors({PEER: True}, opened={PEER: opened})])
        self.drain()

    def handle(self, *messages: object) -> None:
        for message in messages:
            self.speaking.hearing.handle(message)  # type: ignore[arg-type]

    def drain(self) -> None:
        self.speaking.flush()
        while self.answered < len(self.link.lines):
            line = self.link.lines[self.answered]
            self.answered += 1
            self.handle(Failed() if line.startswith("l3net ") and not self.knows else Done())
            self.speaking.flush()

    def tokens(self) -> list[str]:
        asked = (line.split() for line in self.link.lines if line.startswith("l3net received "))
        return [words[2] for words in asked if words[3:] == ["neighbor", str(PEER)]]

    def replay(self, *updates: Updated, token: str = "", lasted: float = 500.0) -> None:
        asked = token or self.tokens()[-1]
        self.handle(ReplayBegan(PEER, asked, OPENED, lasted, IPV4))
        self.handle(*updates, ReplayEnded(PEER, asked))

    @property
    def learned(self) -> dict[str, bool]:
        return {str(entry.raw.prefix): entry.stale for entry in self.rib.received(PEER)}


def running(scenario: Callable[[], None]) -> None:
    async def run() -> None:
        scenario()

    asyncio.run(run())


def told(*paths: object) -> Updated:
    return Updated(PEER, tuple(gathered(paths)), ())  # type: ignore[arg-type]


def test_the_speaker_tells_and_the_peer_is_not_asked(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        assert world.speaking.peers[PEER].established
        assert not world.speaking.heard_all([PEER])
        world.replay(told(FIRST), told(SECOND))
        assert world.learned == {"192.168.7.0/24": False, "192.168.8.0/24": False}
        assert world.speaking.heard_all([PEER])
        assert world.speaking.peers[PEER].restart_time == 20, "not what most offer"
        assert not [line for line in world.link.lines if "route-refresh" in line]

    running(scenario)


def test_what_is_not_told_any_more_goes_and_only_at_the_end(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        world.replay(told(FIRST, SECOND))
        world.speaking._dialogue._lost()
        assert world.learned == {"192.168.7.0/24": True, "192.168.8.0/24": True}
        world.speaking.learn_neighbours([Neighbors({PEER: True}, opened={PEER: OPENED})])
        world.drain()
        token = world.tokens()[-1]
        world.handle(ReplayBegan(PEER, token, OPENED, 500.0, frozenset()), told(FIRST))
        assert world.learned == {"192.168.7.0/24": False, "192.168.8.0/24": True}
        world.handle(ReplayEnded(PEER, token))
        assert world.learned == {"192.168.7.0/24": False}

    running(scenario)


def test_the_answer_to_another_question_sweeps_nothing(tmp_path: Path) -> None:
    """The tail of what an agent before us has asked."""

    def scenario() -> None:
        world = World(tmp_path)
        world.handle(told(FIRST))
        world.replay(token="ab12")  # noqa: S106
        assert world.learned == {"192.168.7.0/24": False}
        assert not world.speaking.heard_all([PEER])
        world.replay(told(FIRST))
        assert world.speaking.heard_all([PEER])

    running(scenario)


def test_a_session_that_comes_up_anew_within_it_is_not_swept_by_its_end(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        token = world.tokens()[-1]
        world.handle(ReplayBegan(PEER, token, OPENED, 500.0, frozenset()), told(FIRST))
        world.handle(StateChanged(PEER, "down", "closing connection"), StateChanged(PEER, "up"))
        world.handle(ReplayEnded(PEER, token))
        assert world.learned == {"192.168.7.0/24": True}, "kept until it is said again, or its time is over"

    running(scenario)


@pytest.mark.parametrize("refresh", [True, False])
def test_an_older_speaker(tmp_path: Path, refresh: bool) -> None:
    """The peer is asked, or, where it takes no refresh, the session made anew; nothing is swept meanwhile."""

    def scenario() -> None:
        world = World(tmp_path, knows=False, opened=replace(OPENED, refresh=refresh))
        world.drain()
        asked = [line for line in world.link.lines if "route-refresh" in line]
        reset = [line for line in world.link.lines if "teardown" in line]
        assert asked == [f"neighbor {PEER} announce route-refresh ipv4 unicast"] * refresh
        assert reset == [f"neighbor {PEER} teardown 4"] * (not refresh)
        world.handle(told(FIRST))
        assert world.learned == {"192.168.7.0/24": False}

    running(scenario)


def test_what_a_limit_turned_away_is_told_again_when_there_is_room(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        world.speaking.set_sessions({PEER: replace(SESSION, max_prefixes=1)})
        world.replay(told(FIRST, SECOND))
        assert list(world.learned) == ["192.168.7.0/24"]
        before = len(world.tokens())
        world.speaking.set_sessions({PEER: SESSION})
        world.drain()
        assert len(world.tokens()) == before + 1
        world.replay(told(FIRST, SECOND))
        assert list(world.learned) == ["192.168.7.0/24", "192.168.8.0/24"]
        assert not world.speaking.peers[PEER].over_limit

    running(scenario)


def test_families_that_the_peer_does_not_speak_are_not_announced(tmp_path: Path) -> None:
    """A peer without capabilities speaks IPv4 alone (RFC 4760); what it is not told does not count."""

    def scenario() -> None:
        both = replace(SESSION, families=frozenset(Family), next_hops=SESSION.next_hops)
        world = World(tmp_path)
        world.speaking.set_sessions({PEER: both})
        world.handle(StateChanged(PEER, "down", "closing connection"))
        world.handle(replace(OPENED, families=IPV4), StateChanged(PEER, "up"))
        ours6 = path("fd00:10:244:1::/120", "fd00::2")
        world.speaking.want(PEER, {OURS.prefix: OURS, ours6.prefix: ours6})
        world.drain()
        said = [line for line in world.link.lines if "announce" in line]
        assert [line for line in said if "10.244.1.0/24" in line]
        assert not [line for line in said if "fd00:10:244:1::" in line or "eor ipv6" in line]
        assert world.speaking.queues.announced(PEER) == 1

    running(scenario)


def test_families_that_the_peer_has_not_offered_are_not_learned(tmp_path: Path) -> None:
    """RFC 4760 section 8. The control is one that it has offered."""

    def scenario() -> None:
        world = World(tmp_path)
        world.speaking.set_sessions({PEER: replace(SESSION, families=frozenset(Family))})
        world.handle(StateChanged(PEER, "down", "closing connection"))
        world.handle(replace(OPENED, families=frozenset({Family.IPV6})), StateChanged(PEER, "up"))
        world.handle(told(FIRST, path("fd77::/64", "fd00::1")))
        assert world.learned == {"fd77::/64": False}

    running(scenario)


def test_what_waits_in_exabgp_is_not_counted_as_sent(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        world.replay()
        world.speaking.want(PEER, {OURS.prefix: OURS})
        assert (world.speaking.queues.announced(PEER), world.speaking.queues.out_queue(PEER)) == (0, 1)
        world.drain()
        assert (world.speaking.queues.announced(PEER), world.speaking.queues.out_queue(PEER)) == (1, 0)
        world.speaking.queues.learn([Queues({PEER: Queue(1, 17.0)})])
        assert (world.speaking.queues.announced(PEER), world.speaking.queues.out_queue(PEER)) == (0, 1)
        assert world.speaking.queues.stuck(PEER) == 17.0
        world.handle(StateChanged(PEER, "down", "closing connection"))
        assert world.speaking.queues.stuck(PEER) == 0.0

    running(scenario)


def test_the_end_of_a_session_is_shown_beside_the_attempts_since(tmp_path: Path) -> None:
    def scenario() -> None:
        world = World(tmp_path)
        world.handle(Notified(PEER, 6, 2, True, "[b]maintenance[/b]"))
        world.handle(StateChanged(PEER, "down", "notification received (6,2)"))
        world.handle(Attempted(PEER, True, "connection refused"), StateChanged(PEER, "down", "closing"))
        peer = world.speaking.peers[PEER]
        said = 'NOTIFICATION received: Administrative Shutdown (6/2): "[b]maintenance[/b]"'
        assert str(peer.last_reset) == said
        assert str(peer.last_attempt) == "connection refused"
        assert peer.reason == f"connection refused; last session: {said}"

    running(scenario)
