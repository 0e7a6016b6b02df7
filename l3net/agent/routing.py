"""Which routes the node wants, and the kernel brought to them: its own, and those learned from peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from l3net.agent.kernel import KernelSide
from l3net.agent.resolving import Resolver
from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.multipath import discard, discards, weighted
from l3net.errors import KernelError
from l3net.fib.desired import discarded, learned, standing
from l3net.fib.underlay import HostLink, Underlay
from l3net.model import Address, ClusterState, Prefix, Route
from l3net.naming import METRIC_BGP
from l3net.ports import RouteKey, RouteMemory, UnderlayReader
from l3net.retry import until_beat

log = logging.getLogger("l3net.agent")

#: Seconds between writing down which routes are wanted.
REMEMBER: Final = 5.0


class Routing:
    """`due` is called when a route that the kernel has refused is to be tried again."""

    def __init__(
        self, kernel: KernelSide, reader: UnderlayReader, rib: LocRib, due: Callable[[], None]
    ) -> None:
        self._kernel = kernel
        self._reader = reader
        self._rib = rib
        self._due = due
        self._next_try: asyncio.TimerHandle | None = None
        self.resolver = Resolver()
        self.underlay, self._seen = Underlay((), ()), False
        self.links: dict[int, HostLink] = {}

    def sees(self) -> bool:
        """Whether the underlay was ever read: from an empty one no session can be decided."""
        if not self._seen:
            self.read_underlay()
        return self._seen

    def read_underlay(self) -> bool:
        """Whether anything a decision looks at has changed."""
        problems = self._kernel.problems
        try:
            underlay, links = self._reader.read()
        except KernelError as err:
            if problems.get("underlay") != str(err):
                log.error("%s", err)
            problems["underlay"] = str(err)  # and so it is tried again
            return False
        self.links, self._seen = dict(links), True
        problems.pop("underlay", None)
        if underlay == self.underlay:
            return False
        self.underlay = underlay
        self.resolver.follow(underlay)
        self._kernel.refused.retry_all()
        return True

    # --- paths -------------------------------------------------------------------------------------------

    def usable(self, candidate: Candidate) -> bool:
        """Whether the next hop of a path that policy accepts leads anywhere now, or need not."""
        return bool(self.resolver.resolve(candidate)) or discard(candidate)

    def best(self, prefix: Prefix) -> tuple[Candidate, ...]:
        """The best usable paths to a prefix, equal ones together."""
        return self._rib.best(prefix, self.usable)

    def _learned(self, prefixes: list[Prefix]) -> Iterable[Route] | None:
        """The routes to prefixes of which the same is known (`LocRib.alike`); None: there are none."""
        best = self.best(prefixes[0])
        if discards(best):
            return discarded(prefixes)
        hops = [(candidate, self.resolver.resolve(candidate)) for candidate in best]
        return learned(prefixes, weighted(hops)) if hops else None

    # --- the kernel --------------------------------------------------------------------------------------

    def want_standing(
        self, state: ClusterState, blocks: tuple[Prefix, ...], served: set[Address]
    ) -> set[RouteKey]:
        """Want the routes that stand on nobody's word but the declared state's; the keys to look at."""
        kernel = self._kernel
        networks = state.configuration.advertise.networks
        wanted = standing(networks, state.service_ranges, blocks, self.underlay, served)
        gone = {key for key in kernel.desired if key[1] != METRIC_BGP} - wanted.keys()
        for key in gone:
            del kernel.desired[key]
        kernel.desired.update(wanted)
        return gone | wanted.keys()

    def want_learned(self, touched: Iterable[Prefix]) -> set[RouteKey]:
        """Want the best paths to these prefixes; the keys to look at. That one peer has a path that is no
        use, as one that has come back to this AS, says nothing of what another has not said again yet."""
        kernel = self._kernel
        keys: set[RouteKey] = set()
        for prefixes in self._rib.alike(touched):
            routes = self._learned(prefixes)
            if routes is None:
                for prefix in prefixes:
                    key = (prefix, METRIC_BGP)
                    if not kernel.waits(key):
                        kernel.desired.pop(key, None)
                    keys.add(key)
                continue
            found = {(route.prefix, METRIC_BGP): route for route in routes}
            kernel.heard(found)
            kernel.desired.update(found)
            keys.update(found)
        return keys

    async def apply(self, keys: set[RouteKey], learned: set[Prefix]) -> None:
        """Bring these routes to what is wanted, and the best paths to these prefixes."""
        await self._kernel.apply_routes(keys, learned, self.want_learned)
        self.try_refused_later()

    async def hold(self) -> None:
        """Until it is known what is wanted: a link that came back has its routes again."""
        await self._kernel.hold()
        self.try_refused_later()

    def try_refused_later(self) -> None:
        """Of the routes that the kernel has refused, those that are due first."""
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        due = self._kernel.refused.next_due()
        if due is not None:
            self._next_try = asyncio.get_running_loop().call_at(due, self._due)

    async def remember(self, memory: RouteMemory, settled: Callable[[], bool]) -> None:
        """What is wanted in the kernel, for the next agent; now and then, and not while it changes. Until
        cancelled."""
        written, now = -1, asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(until_beat(now(), REMEMBER))
            changes = self._kernel.changes
            if changes == written or not settled():
                continue
            await asyncio.to_thread(memory.write, dict(self._kernel.desired))
            written = changes
