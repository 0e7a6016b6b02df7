"""The lease: never two leaders, and soon another when one is gone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.controller.election import DURATION, RENEW_DEADLINE, RETRY, Election
from l3net.errors import ConflictError, L3netError
from l3net.ports import LeaderLease


@dataclass
class Cell:
    """A Lease in memory, with an API server's rule: who did not see the last write may not write."""

    lease: LeaderLease = field(default_factory=LeaderLease)
    away: set[str] = field(default_factory=set)
    version: int = 0

    def read(self) -> LeaderLease:
        return self.lease

    def write(self, lease: LeaderLease) -> LeaderLease:
        if lease.version != self.lease.version:
            raise ConflictError("stale")
        self.version += 1
        self.lease = replace(lease, version=str(self.version))
        return self.lease


@dataclass
class Through:
    """One candidate's way to the cell, which may be broken."""

    cell: Cell
    broken: bool = False

    def read(self) -> LeaderLease:
        if self.broken:
            raise L3netError("no answer")
        return self.cell.read()

    def write(self, lease: LeaderLease) -> LeaderLease:
        if self.broken:
            raise L3netError("no answer")
        return self.cell.write(lease)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidates(count: int = 2) -> tuple[Clock, list[Through], list[Election]]:
    clock, cell = Clock(), Cell()
    ways = [Through(cell) for _ in range(count)]
    return clock, ways, [Election(way, f"c{index}", clock) for index, way in enumerate(ways)]


def test_first_comes_first() -> None:
    clock, _, (one, two) = candidates()
    assert one.attempt() and not two.attempt()
    for _ in range(100):
        clock.now += RETRY
        assert one.attempt() and not two.attempt()
    assert two.holder == "c0"


def test_another_takes_over_a_lease_time_after_the_last_renewal_it_saw() -> None:
    clock, ways, (one, two) = candidates()
    assert one.attempt() and not two.attempt()
    ways[0].broken = True
    took = 0.0
    while not two.attempt():
        clock.now += RETRY
        took += RETRY
        one.attempt()
    assert DURATION <= took <= DURATION + RETRY
    assert not one.leading
    ways[0].broken = False
    assert not one.attempt()


@pytest.mark.parametrize("back", [LeaderLease("", 1, 3, "x"), LeaderLease()])
def test_a_lease_that_is_free_again_is_not_taken_while_somebody_leads(back: LeaderLease) -> None:
    """etcd was put back to when nobody held it, or it was deleted."""
    clock, ways, (one, two) = candidates()
    ways[0].cell.lease = LeaderLease("", 1, 3, "w")
    assert one.attempt() and not two.attempt()
    ways[0].cell.lease = back
    clock.now += RETRY / 2
    assert one.leading and not two.attempt()
    clock.now += RETRY / 2
    assert one.attempt() and not two.attempt(), "who led takes it at once"
    clock.now += 2 * DURATION
    one.attempt(), two.attempt()
    ways[0].cell.lease, ways[0].broken = back, True
    took = 0.0
    while not two.attempt():
        clock.now += RETRY
        took += RETRY
        one.attempt()
    assert not one.leading and took <= DURATION + RETRY


def test_a_leader_that_cannot_renew_steps_down_before_another_may_begin() -> None:
    clock, ways, (one, _) = candidates()
    assert one.attempt()
    ways[0].broken = True
    clock.now += RENEW_DEADLINE - 0.1
    assert one.attempt(), "a short outage changes nothing"
    clock.now += 0.2
    assert not one.attempt()
    assert RENEW_DEADLINE < DURATION


def test_released_it_is_free_at_once() -> None:
    _, _, (one, two) = candidates()
    one.attempt()
    one.release()
    assert not one.leading
    assert two.attempt()
    one.release()  # not its own any more
    assert two.attempt()


def test_who_lets_go_while_renewing_does_not_lead() -> None:
    """An attempt is under way in another thread, and its answer comes last."""
    cell, now = Cell(), [0.0]

    class Slow(Through):
        late = False

        def write(self, lease: LeaderLease) -> LeaderLease:
            written = self.cell.write(lease)
            if self.late:
                self.late = False
                one.release()
            return written

    way = Slow(cell)
    one = Election(way, "one", lambda: now[0])
    assert one.attempt()
    way.late = True
    assert not one.attempt()
    assert not one.leading
    assert cell.lease.holder == ""
    assert not one.attempt(), "for good"
    assert Election(Through(cell), "two", lambda: now[0]).attempt()


def test_a_race_for_it_has_one_winner() -> None:
    _, ways, (one, two) = candidates()
    seen = ways[0].cell.read()
    assert two.attempt()
    ways[0].cell.read = lambda: seen  # type: ignore[method-assign] - it read before the other wrote
    assert not one.attempt()
    assert two.leading


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("attempt"), st.integers(0, 2)),
        st.tuples(st.just("break"), st.integers(0, 2)),
        st.tuples(st.just("mend"), st.integers(0, 2)),
        st.tuples(st.just("release"), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_never_two_leaders(steps: list[tuple[str, float]]) -> None:
    clock, ways, every = candidates(3)
    for what, which in steps:
        match what:
            case "attempt":
                every[int(which)].attempt()
            case "break":
                ways[int(which)].broken = True
            case "mend":
                ways[int(which)].broken = False
            case "release":
                every[int(which)].release()
            case _:
                clock.now += which
        assert sum(each.leading for each in every) <= 1
