"""Controllers and a node's datastore against whatever an API server does: seeds, and what they have found."""

from __future__ import annotations

import pytest
from cluster import draw, run
from cluster_case import BEGINNING
from cluster_laws import Laws
from stepped import Case, Step

#: Seeds in one test, so that there are not thousands of tests.
A_TEST = 6


def broken(first: int, count: int) -> dict[int, object]:
    return {seed: found for seed in range(first, first + count) if (found := run(draw(seed)))}


@pytest.mark.parametrize("first", range(0, 12, A_TEST))
def test_whatever_happens_the_laws_hold(first: int) -> None:
    assert broken(first, A_TEST) == {}


@pytest.mark.soak
@pytest.mark.parametrize("first", range(12, 3012, 50))
def test_the_laws_hold_for_thousands(first: int) -> None:
    assert broken(first, 50) == {}


def test_nothing_but_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def requests(seed: int) -> list[object]:
        asked: list[object] = []
        follow = Laws.follow

        def follows(self: Laws, world) -> None:  # type: ignore[no-untyped-def]
            follow(self, world)
            asked.append(world.api.requests)

        monkeypatch.setattr(Laws, "follow", follows)
        run(draw(seed))
        monkeypatch.undo()
        return asked

    for seed in (3,):
        first = requests(seed)
        assert len(first[0]) > 500  # type: ignore[arg-type]
        assert first == requests(seed)


def test_any_steps_may_be_left_out() -> None:
    case = draw(5)
    for part in (case.steps[::2], case.steps[1::2], case.steps[len(BEGINNING) :], ()):
        assert run(Case(case.seed, part)) == []


FOUND = {
    "a pool that was deleted and made anew has its status": Case(
        25,
        (
            Step(at=0, what="start", args=("a",)),
            Step(at=224.602, what="pool_back", args=("six", 1.42)),
            Step(at=387.27, what="apart", args=("a", 4.15)),
            Step(at=387.285, what="pool_back", args=("six", 1.62)),
        ),
    ),
    "after a restore nobody leads by a lease that another holds": Case(
        1,
        (
            Step(0, "start", ("a",)),
            Step(20, "start", ("b",)),
            Step(60, "apart", ("a", 40.0)),
            Step(112, "restore", (60.0,)),
        ),
    ),
    "an address that a service's status says goes to no other": Case(
        71,
        (
            Step(0, "pool", ("lb4", "192.0.2.0/26", 0)),
            Step(0, "pool", ("lb6", "2001:db8:1::/122", 0)),
            Step(0, "service", ("s1", 0)),
            Step(1, "start", ("b",)),
            Step(42.061, "service", ("s1", 1)),
            Step(44.13, "restore", (33.38,)),
            Step(52, "service", ("s5", 1)),
        ),
    ),
    "a ledger that was deleted is made anew": Case(2, (*BEGINNING, Step(100, "ledger", ("delete", 0)))),
    "a ledger that was edited is mended": Case(2, (*BEGINNING, Step(100, "ledger", ("swap", 0)))),
    "who waited for an answer for longer than he led writes nothing": Case(
        3,
        (
            *BEGINNING,
            *(Step(40 + 5 * number, "node_again", (f"n{number}",)) for number in range(1, 5)),
            *(Step(41 + 5 * number, "service_again", (f"s{number}", 1)) for number in range(1, 5)),
            Step(40, "slow", (60.0, 5.0, 28.0)),
        ),
    ),
    "who was cut off during a restore hears of it": Case(
        4,
        (
            *BEGINNING,
            Step(100, "namespaces", (3,)),
            Step(101.5, "apart", ("n1", 250.0)),
            Step(110, "restore", (30.0,)),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_seeds_have_found(name: str) -> None:
    assert run(FOUND[name]) == []
