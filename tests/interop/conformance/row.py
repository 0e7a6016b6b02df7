"""A row of the table: a situation, what the RFC asks, a script that brings it about and tells the outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from duts import Peering
from talk import KEPT, Talk

#: Says what there is to say; the outcome, in the words of the table.
Script = Callable[[Talk], Awaitable[str]]

USED = f"{KEPT}, route used"
WITHDRAWN = f"{KEPT}, route withdrawn"
ESTABLISHED = "session established"
NOT_OFFERED = "capability not offered"

PASSIVE = Peering()


@dataclass(frozen=True, slots=True)
class Row:
    """`accepts` are the outcomes that are what the RFC asks; `*` stands for anything.
    Where l3net does something else, `deviations` has it.
    """

    key: str
    section: str
    situation: str
    asks: str
    script: Script
    accepts: tuple[str, ...]
    versions: tuple[int, ...] = (4, 6)  # of IP, for which it has a meaning
    optional: bool = False  # others need not have what it is about
    alone: bool = False  # on a device of its own, which it may end
    slow: bool = False  # longer than half a minute: `make soak` and the document alone
    peering: Peering = PASSIVE

    def asked(self, outcome: str) -> bool:
        """Whether an outcome is what the RFC asks."""
        if outcome == NOT_OFFERED and self.optional:
            return True
        return any(fnmatchcase(outcome, pattern) for pattern in self.accepts)
