"""A session that flaps is held down, for longer each time, and one that holds is forgiven."""

from __future__ import annotations

from l3net.agent.peers import FIRST_HOLD, FLAPS, FORGIVEN_AFTER, LONGEST_HOLD, Damping


def flap(damping: Damping, now: float, times: int, lasted: float = 1.0) -> list[float]:
    return [damping.flapped(now + number, lasted=lasted) for number in range(times)]


def test_a_few_flaps_are_nothing() -> None:
    damping = Damping()
    assert flap(damping, 100, FLAPS - 1) == [0.0] * (FLAPS - 1)
    assert not damping.held(100 + FLAPS)


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
