"""When what has failed is tried again: laws of `l3net.retry`."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from l3net.retry import Backoff, until_beat

FIRST, LONGEST = 1.0, 60.0
KEYS = st.sampled_from("abc")
#: Who fails after how many seconds; None: it succeeds.
EVENTS = st.lists(st.tuples(KEYS, st.floats(0, 100) | st.none()), max_size=60)


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff: Backoff[str] = Backoff(FIRST, LONGEST)
    waits = [backoff.failed("a", 100.0) - 100.0 for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.failed("b", 100.0) == 101.0, "each by itself"
    backoff.forget("a")
    assert "a" not in backoff and len(backoff) == 1
    assert backoff.failed("a", 0.0) == FIRST


def test_a_key_waits_until_it_is_due() -> None:
    backoff: Backoff[str] = Backoff(FIRST, LONGEST)
    assert not backoff.waits("a", 0.0) and backoff.next_due() is None and backoff.due(9.0) == []
    due = backoff.failed("a", 0.0)
    assert backoff.waits("a", due - 0.1) and not backoff.waits("a", due)
    assert backoff.due(due - 0.1) == [] and backoff.due(due) == ["a"] and backoff.next_due() == due


def test_what_may_succeed_is_tried_sooner_and_waits_grow_on() -> None:
    backoff: Backoff[str] = Backoff(FIRST, LONGEST)
    for _ in range(5):
        backoff.failed("a", 0.0)
    backoff.change("a", 0.0)
    assert backoff.next_due() == FIRST, "soon, but not with every change"
    backoff.hasten("a", 0.0)
    backoff.hasten("a", 50.0)
    assert backoff.due(0.0) == ["a"]
    assert backoff.failed("a", 0.0) == 32.0
    backoff.hasten("b", 0.0)
    assert "b" not in backoff, "it has not failed"


@given(EVENTS, st.floats(0, 0.999))
def test_any_order_of_events(events: list[tuple[str, float | None]], spread: float) -> None:
    backoff: Backoff[str] = Backoff(FIRST, LONGEST, lambda: spread)
    now, failed = 0.0, set[str]()
    for key, seconds in events:
        if seconds is None:
            backoff.forget(key)
            failed.discard(key)
        else:
            now += seconds
            # As sums of floats: 0.50001 - 0.00001 is less than 0.5.
            assert now + FIRST / 2 <= backoff.failed(key, now) <= now + LONGEST
            failed.add(key)
        assert len(backoff) == len(failed)
        assert set(backoff.due(now + LONGEST)) == failed, "nothing waits longer, and nothing is lost"


@given(st.floats(0, 1e7), st.sampled_from([0.5, 1.0, 3.0]))
@example(3.0 - 1e-10, 3.0)  # a loop whose clock stands still never came past it
def test_who_looks_around_by_the_beat_does_so_together(now: float, every: float) -> None:
    """However far apart they begin, an idle process wakes up once for all of them."""
    wait = until_beat(now, every)
    assert every / 100 < wait <= every * 1.01
    late = (now + wait) % every
    assert min(late, every - late) < 1e-6
