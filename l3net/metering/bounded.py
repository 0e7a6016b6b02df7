"""Counters by name, of which a fixed number is told apart and the others are counted together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Names told apart, in each family that is bounded.
MOST: Final = 200


class Bounded(Generic[K]):
    """`follow` totals that only grow. Who is told apart stays so for as long as it is there, and who is not
    stays among the others, so that no counter ever goes back for want of room.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._apart: dict[K, None] = {}
        self._last: dict[K, int] = {}  # of the others, as they were seen last
        self.others = 0

    def follow(self, totals: Mapping[K, int]) -> Iterator[tuple[K, int]]:
        """Those told apart, in the order in which they came; `others` has the sum of the rest, with what is
        gone by now."""
        self._apart = {key: None for key in self._apart if key in totals}
        left: dict[K, int] = {}
        for key, total in totals.items():
            if key in self._apart:
                continue
            if key not in self._last and len(self._apart) < self._most:
                self._apart[key] = None
                continue
            before = self._last.get(key, 0)
            self.others += total - before if total >= before else total
            left[key] = total
        self._last = left
        return ((key, totals[key]) for key in self._apart)
