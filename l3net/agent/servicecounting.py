"""How many connections began to each service, as totals that only grow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from l3net.errors import KernelError
from l3net.model import ObjectName, Prefix, ServerKey
from l3net.ports import ServiceCounters
from l3net.retry import until_beat

log = logging.getLogger("l3net.services")

#: Seconds between readings.
EVERY: Final = 15.0
#: Seconds for which a reading counts as new, for who asks.
FRESH: Final = 1.0
#: Seconds after which all that is in force is gone through, though nothing has come or gone.
AT_LEAST: Final = 300.0


class ServiceCounting:
    """`run` follows the services and reads now and then; `look` has it follow some that have come or gone, or
    all, soon; `read` does all at once.

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
        self._last: dict[ServerKey, int] = {}  # of those followed
        self._at = float("-inf")
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._come_or_gone: dict[ServerKey, bool] = {}  # by now there, or not
        self._all = True  # it is time to read
        self._anew = True  # others may be in force than are followed
        self._followed = float("-inf")  # when all were gone through last
        self._owners: dict[ServerKey, ObjectName] = {}  # of those that had counted something
        self._gone = True  # a service may have no address and port any more
        self.totals: dict[ObjectName, int] = {}
        self.problem = ""

    def look(self, changed: Mapping[ServerKey, bool] | None = None) -> None:
        """These are there now, or not any more; None: everything may be another."""
        if changed is None:
            self._all = self._anew = True
        else:
            self._come_or_gone |= changed
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._changed.clear()
            if self._all or self.problem:
                await self.read()
            else:
                await self._follow_some()
            try:
                async with asyncio.timeout_at(self._at + until_beat(self._at, EVERY)):
                    await self._changed.wait()
            except TimeoutError:
                self._all = True

    async def _follow_some(self) -> None:
        """Those that have come or gone, and no others: with ten thousand services, that is a difference."""
        async with self._reading:
            changed, self._come_or_gone = self._come_or_gone, {}
            if self._counters is None or not changed:
                return
            come = tuple(key for key, there in changed.items() if there)
            gone = tuple(key for key, there in changed.items() if not there)
            try:
                await asyncio.to_thread(self._counters.change, come, gone)
            except KernelError as err:
                self._tell(err)
            for key in gone:
                self._last.pop(key, None)
                self._gone = True

    async def fresh(self) -> None:
        """Read, unless that was a moment ago: for who asks."""
        if asyncio.get_running_loop().time() - self._at > FRESH:
            await self.read()

    async def read(self) -> None:
        """Bring kernel and totals up to date. What cannot be read stays as it was, and `problem` tells."""
        async with self._reading:
            self._at = now = asyncio.get_running_loop().time()
            # Of ten thousand services that are as they were, nothing but what is counted is looked at.
            follow = self._anew or self._come_or_gone or self.problem or now - self._followed >= AT_LEAST
            self._all, self._anew, self._come_or_gone = False, False, {}
            if self._counters is None:
                return
            wanted, ports_on = self._wanted()
            try:
                if follow:
                    self._gone = True
                    await asyncio.to_thread(self._counters.follow, tuple(wanted), tuple(ports_on))
                    self._followed = now
                counted = await asyncio.to_thread(self._counters.read)
            except KernelError as err:
                self._tell(err)
                return
            self.problem = ""
            if counted or self.totals or self._last:
                self._count(counted, wanted)

    def _tell(self, err: KernelError) -> None:
        if self.problem != str(err):
            log.warning("connections to services are not counted: %s", err)
        self.problem = str(err)

    def _count(self, counted: Mapping[ServerKey, int], wanted: Collection[ServerKey]) -> None:
        """`wanted`: those in force. All of them are gone through only where one is gone or another's."""
        owners = {key: owner for key in counted if (owner := self._owner(key)) is not None}
        if self._gone or any(self._owners.get(key, owner) != owner for key, owner in owners.items()):
            there = {owner for key in wanted if (owner := self._owner(key)) is not None}
            self.totals = {owner: total for owner, total in self.totals.items() if owner in there}
        self._owners, self._gone = owners, False
        for key, owner in owners.items():
            packets, before = counted[key], self._last.get(key, 0)
            # Less than before: somebody has made the table anew.
            more = packets - before if packets >= before else packets
            self.totals[owner] = self.totals.get(owner, 0) + more
        self._last = dict(counted)
