"""What policies have accepted and denied, as totals that only grow: the kernel's counters begin anew with the
table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from l3net.errors import KernelError
from l3net.model import Direction
from l3net.policy.book import PolicyBook
from l3net.policy.compiling import Counted
from l3net.policy.mixing import PolicyKey
from l3net.ports import Counters
from l3net.retry import until_beat

log = logging.getLogger("l3net.policy")

#: Seconds between readings.
EVERY: Final = 15.0


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted: packets that rules of a policy accept or deny, or (`default`) that no rule of these
    NetworkPolicies accepts."""

    default: bool
    direction: Direction
    action: str
    policies: tuple[PolicyKey, ...]


class Counting:
    """`run` reads now and then; `read` at once. `made` tells how often the table was made anew."""

    def __init__(self, counters: Counters, book: PolicyBook, made: Callable[[], int]) -> None:
        self._counters = counters
        self._book = book
        self._made = made
        self._of = -1  # the table that was read last
        self._last: Mapping[str, int] = {}  # as the kernel has it
        self._reading = asyncio.Lock()
        self.totals: dict[Counter, int] = {}
        self.problem = ""

    async def run(self) -> None:
        """For ever."""
        now = asyncio.get_running_loop().time
        while True:
            await self.read()
            await asyncio.sleep(until_beat(now(), EVERY))

    async def read(self) -> None:
        """Bring the totals up to date. What cannot be read stays as it was, and `problem` tells."""
        async with self._reading:
            if not any(True for _ in self._book.compiling.counted()):
                self._last, self.totals, self.problem = {}, {}, ""
                return
            made = self._made()
            try:
                found = await asyncio.to_thread(self._counters.read)
            except KernelError as err:
                if self.problem != str(err):
                    log.warning("counters of policies: %s", err)
                self.problem = str(err)
                return
            self.problem = ""
            if made == self._made():  # else which of both tables was read is not known
                self._take(found, self._last if made == self._of else {})
                self._of, self._last = made, found

    def _take(self, found: Mapping[str, int], last: Mapping[str, int]) -> None:
        totals: dict[Counter, int] = {}
        for each in self._book.compiling.counted():
            counter = _counter(each)
            packets, before = found.get(each.name, 0), last.get(each.name, 0)
            grown = packets - before if packets >= before else packets
            totals[counter] = totals.get(counter, self.totals.get(counter, 0)) + grown
        self.totals = totals

    def of(self, policy: PolicyKey) -> dict[tuple[Direction, str], int]:
        """What the rules of one policy have counted, by direction and action."""
        return {
            (each.direction, each.action): count
            for each, count in self.totals.items()
            if not each.default and each.policies == (policy,)
        }

    def defaults(self, of: Collection[PolicyKey] = ()) -> Iterator[tuple[Counter, int]]:
        """What no rule accepted, of all combinations, or of those that have one of these policies."""
        for each, count in self.totals.items():
            if each.default and (not of or not set(of).isdisjoint(each.policies)):
                yield each, count


def _counter(each: Counted) -> Counter:
    return Counter(each.default, each.by.direction, each.action, each.by.policies)
