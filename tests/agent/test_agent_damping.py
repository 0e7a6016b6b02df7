"""A session that flaps is held down, for longer each time, and one that holds is forgiven."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

from agent_shells import speaker

from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.damping import (
    FIRST_HOLD,
    FLAP_WINDOW,
    FLAPS,
    FORGIVEN_AFTER,
    LONGEST_HOLD,
    SHAKY_FLAPS,
    Damping,
)
from l3net.bgp.events import StateChanged
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family


def session() -> Session:
    near, far = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1")
    return Session("tor", far, 65001, near, 64512, near, frozenset({Family.IPV4}))


def flap(damping: Damping, now: float, times: int, lasted: float = 1.0) -> list[float]:
    return [damping.flapped(now + number, lasted=lasted) for number in range(times)]


def test_a_few_flaps_are_nothing() -> None:
    damping = Damping()
    assert flap(damping, 100, FLAPS - 1) == [0.0] * (FLAPS - 1)
    assert not damping.held(100 + FLAPS)


def test_a_session_that_flaps_is_to_be_told_nothing_at_once() -> None:
    damping = Damping()
    flap(damping, 100, 1)
    assert not damping.shaky(101)
    flap(damping, 102, 1)
    assert damping.shaky(103)
    assert not damping.shaky(103 + FLAP_WINDOW)


def test_many_flaps_hold_it_down_longer_each_time() -> None:
    damping = Damping()
    assert flap(damping, 100, FLAPS)[-1] == FIRST_HOLD
    now = 100.0 + FLAPS
    holds = []
    for _ in range(8):
        assert damping.held(now)
        assert damping.flapped(now, lasted=1) == 0.0  # while held nothing is counted
        now = damping.until + 1
        assert not damping.held(now)
        holds.append(damping.flapped(now, lasted=1))
    assert holds == [20.0, 40.0, 80.0, 160.0, LONGEST_HOLD, LONGEST_HOLD, LONGEST_HOLD, LONGEST_HOLD]


def test_a_session_that_held_is_forgiven() -> None:
    damping = Damping()
    flap(damping, 100, FLAPS)
    later = damping.until + FORGIVEN_AFTER
    assert damping.flapped(later, lasted=FORGIVEN_AFTER) == 0.0
    assert flap(damping, later + 1, FLAPS - 1)[-1] == FIRST_HOLD


def test_nothing_is_queued_for_a_session_that_flaps_until_it_holds(tmp_path: Path) -> None:
    """What ExaBGP has queued for a session that is down makes it put off reloads: bug 5 of its list."""
    far = session().peer_address

    async def told() -> list[bool]:
        rib = LocRib(lambda _session, path: (ACCEPTED, path))
        speaking = Speaking(speaker(tmp_path), rib, lambda _prefixes: None)
        speaking.set_sessions({far: session()})
        seen = []
        for _ in range(SHAKY_FLAPS + 1):
            speaking.hearing.handle(StateChanged(far, "up"))
            seen.append(speaking.announcer.established(far))
            speaking.hearing.handle(StateChanged(far, "down", "closed"))
        speaking.hearing.handle(StateChanged(far, "up"))
        for _ in range(600):
            if speaking.announcer.established(far):
                break
            await asyncio.sleep(0.1)
        return [*seen, speaking.announcer.established(far)]

    assert asyncio.run(told()) == [True] * SHAKY_FLAPS + [False, True]
