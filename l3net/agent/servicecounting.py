"""How many connections began to each service, as totals that only grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from l3net.errors import KernelError
from l3net.model import ObjectName, Prefix, ServerKey
from l3net.ports import ServiceCounters

log = logging.getLogger("l3net.services")

#: Seconds between readings.
EVERY: Final = 15.0
#: Seconds for which a reading counts as new, for who asks.
FRESH: Final = 1.0


class ServiceCounting:
    """`run` follows the services and reads now and then; `look` has it look soon; `read` does at once.

    Without counters nothing is counted. `wanted` tells what is in force and where NodePorts are, `owner`
    whose an address and port is.
    """

    def __init__(
        self,
        counters: ServiceCounters | None,
        wanted: Callable[[], tuple[Collection[ServerKey], Collection[Prefix]]],
        owner: Callable[[ServerKey], ObjectName | None],
    ) -> None:
        self._counters, self._wanted, self._owner = counters, wanted, owner
        self._last: dict[ServerKey, int] = {}
        self._at = float("-inf")
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self.totals: dict[ObjectName, int] = {}
        self.problem = ""

    def look(self) -> None:
        """Services have come or gone."""
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._changed.clear()
            await self.read()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._changed.wait()

    async def fresh(self) -> None:
        """Read, unless that was a moment ago: for who asks."""
        if asyncio.get_running_loop().time() - self._at > FRESH:
            await self.read()

    async def read(self) -> None:
        """Bring kernel and totals up to date. What cannot be read stays as it was, and `problem` tells."""
        async with self._reading:
            if self._counters is None:
                return
            self._at = asyncio.get_running_loop().time()
            wanted, ports_on = self._wanted()
            keys = tuple(wanted)
            try:
                await asyncio.to_thread(self._counters.follow, keys, tuple(ports_on))
                counted = await asyncio.to_thread(self._counters.read)
            except KernelError as err:
                if self.problem != str(err):
                    log.warning("connections to services are not counted: %s", err)
                self.problem = str(err)
                return
            self.problem = ""
            self._count(counted, frozenset(keys))

    def _count(self, counted: Mapping[ServerKey, int], keys: frozenset[ServerKey]) -> None:
        there = {owner for key in keys if (owner := self._owner(key)) is not None}
        self.totals = {owner: total for owner, total in self.totals.items() if owner in there}
        for key, packets in counted.items():
            if (owner := self._owner(key)) is None:
                continue
            before = self._last.get(key, 0)
            # Less than before: somebody has made the table anew.
            more = packets - before if packets >= before else packets
            self.totals[owner] = self.totals.get(owner, 0) + more
        self._last = {key: packets for key, packets in counted.items() if key in keys}
