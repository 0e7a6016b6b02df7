"""Cases of `cluster/` and `pods/` as values: steps with their times, printed, cut down by dropping steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Argument: TypeAlias = str | int | float
#: Seeds under which a case with fewer steps is tried.
ORDERS = 4


@dataclass(frozen=True)
class Step:
    """`at` in seconds after the beginning."""

    at: float
    what: str
    args: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Case:
    """`seed` decides what the steps do not: who is first, how long answers take, what a lost write leaves."""

    seed: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Broken:
    """A law that did not hold; `at` in seconds after the beginning."""

    law: str
    at: float
    what: str


Run: TypeAlias = Callable[[Case], Sequence[Broken]]


def printed(case: Case) -> str:
    """As a test would have it."""
    steps = "".join(f"        {step!r},\n" for step in case.steps)
    return f"Case(\n    {case.seed},\n    (\n{steps}    ),\n)"


def without(case: Case, dropped: Iterable[int]) -> Case:
    """Less the steps of these numbers."""
    left_out = frozenset(dropped)
    return Case(case.seed, tuple(step for index, step in enumerate(case.steps) if index not in left_out))


def shrunk(case: Case, run: Run) -> Case:
    """With as few steps as break one of the same laws still."""
    wanted = frozenset(broken.law for broken in run(case))

    def breaks(one: Case) -> Case | None:
        """What is left out changes who is first; so a few orders are tried."""
        for order in range(ORDERS):
            other = Case(one.seed + order, one.steps)
            if wanted & {broken.law for broken in run(other)}:
                return other
        return None

    size = max(1, len(case.steps) // 2)
    while True:
        index = 0
        while index < len(case.steps):
            smaller = without(case, range(index, index + size))
            if (found := breaks(smaller)) is not None:
                case = found
            else:
                index += size
        if size == 1:
            return case
        size = max(1, size // 2)


def cut_down(case: Case, run: Run) -> str:
    """As `shrunk` leaves it, and what it breaks."""
    small = shrunk(case, run)
    return printed(small) + "\n" + "\n".join(map(str, run(small)))
