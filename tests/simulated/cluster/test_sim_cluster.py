"""Controllers and a node's datastore against whatever an API server does: seeds, and what they have found."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from cluster import draw, run
from cluster_case import BEGINNING
from cluster_laws import Laws
from cluster_tales import Tale, edited_ledger, policies, short_refusal, stale_watch, undefined_for_a_while
from stepped import Case, Step

from l3net.controller.loop import Controller
from l3net.shell.kubernetes.absence import Absence
from l3net.shell.kubernetes.reach import Reach

#: Seeds in one test, so that there are not thousands of tests.
A_TEST = 6


def broken(first: int, count: int) -> dict[int, object]:
    return {seed: found for seed in range(first, first + count) if (found := run(draw(seed)))}


@pytest.mark.parametrize("first", range(0, 6, A_TEST))
def test_whatever_happens_the_laws_hold(first: int) -> None:
    assert broken(first, A_TEST) == {}


@pytest.mark.soak
@pytest.mark.parametrize("first", range(6, 3006, 50))
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
    "who was told by the kernel alone that he is cut off hears of it, too": Case(
        0,
        (
            *BEGINNING,
            Step(60.32, "pool", ("more", "10.112.0.0/18", 26)),
            Step(62.207, "namespaces", (3,)),
            Step(62.455, "peer", ("spine",)),
            Step(67.506, "apart", ("n1", 94.75)),
            Step(76.121, "restore", (13.0,)),
        ),
    ),
    "what the ledger gives to one of whom nobody knows goes to no status": Case(
        0,
        (
            *BEGINNING,
            Step(47.155, "service", ("s4", 1)),
            Step(47.25, "service_gone", ("s2",)),
            Step(48.434, "node", ("n5",)),
            Step(48.575, "mesh", (0,)),
            Step(49.336, "namespaces", (3,)),
            Step(54.566, "apart", ("n1", 70.87)),
            Step(61.223, "restore", (14.64,)),
        ),
    ),
    "a lease that is free again is not taken while somebody leads": Case(
        1,
        (
            *BEGINNING,
            Step(29.5, "stop", ("a", 1.0)),
            Step(61.0, "restore", (23.0,)),
            *(Step(75.0 + 7.3 * number, "lease_gone") for number in range(4)),
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


def told(tale: Tale, seed: int) -> Case:
    """A tale alone."""
    steps = tale(Random(seed), 25.0)
    return Case(seed, tuple(sorted((*BEGINNING, *steps), key=lambda step: step.at)))


#: What breaks a law: tale, seed, law, and what of l3net is replaced by what.
CONTROLS = [
    (
        "blocks of who is gone rest",
        edited_ledger,
        3,
        Controller,
        "_forgotten",
        lambda *_: frozenset(("n1", "n2", "n3")),
    ),
    ("nothing is freed of who is there", stale_watch, 0, Controller, "_is_lost", lambda *_: True),
    ("a policy is told once all Pods are known", policies, 0, Reach, "take", lambda *_: True),
    ("every node has its blocks in time", short_refusal, 0, Controller, "_retry", lambda *_: None),
    ("nothing goes that is there", undefined_for_a_while, 0, Absence, "met", lambda *_, **__: 5.0),
]


@pytest.mark.parametrize(
    ("law", "tale", "seed", "of", "name", "other"), CONTROLS, ids=[control[0] for control in CONTROLS]
)
def test_a_law_is_broken_without_what_keeps_it(
    law: str, tale: Tale, seed: int, of: type, name: str, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(told(tale, seed)) == []
    monkeypatch.setattr(of, name, other)
    assert law in {each.law for each in run(told(tale, seed))}


@pytest.mark.parametrize("name", FOUND)
def test_what_seeds_have_found(name: str) -> None:
    assert run(FOUND[name]) == []
