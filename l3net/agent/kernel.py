"""The agent's kernel side: routes and bridge brought to what is wanted, one part after another.

What fails is remembered under the part's name and tried again, each route for itself; it never stops the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from itertools import islice

from l3net.agent.refused import Refused
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.fib.order import deletes_in_order, puts_in_order
from l3net.model import BridgePlan, Prefix, Route
from l3net.naming import METRIC_BGP
from l3net.ports import Bridges, RouteTable

log = logging.getLogger("l3net.kernel")

RouteKey = tuple[Prefix, int]
#: Routes changed in one go; between two goes the loop serves everything else.
ROUTES_AT_ONCE = 4096


class KernelSide:
    """`desired` holds the routes wanted, `mirror` those the kernel is known to hold of ours."""

    def __init__(self, routes: RouteTable, bridges: Bridges) -> None:
        self._routes = routes
        self._bridges = bridges
        self._unheard: set[RouteKey] = set()
        self.desired: dict[RouteKey, Route] = {}
        self.mirror: dict[RouteKey, Route] = {}
        self.refused = Refused()
        self.problems: dict[str, str] = {}
        self.changes = 0  # batches carried out

    # --- routes ------------------------------------------------------------------------------------------

    def read_routes(self) -> None:
        """Read back everything of ours."""
        try:
            self.mirror = self._routes.read()
            self.problems.pop("read routes", None)
        except KernelError as err:
            self._failed("read routes", err)

    def keep_until_heard(self, known: Mapping[RouteKey, Route]) -> None:
        """At our start: what is there, and what an agent before us knew of, is wanted as it is until we know
        better; learned routes until a peer has spoken of them, or all peers have spoken."""
        self.desired = {**known, **self.mirror}
        self._unheard = {key for key in self.desired if key[1] == METRIC_BGP}

    async def hold(self) -> None:
        """Put back what has gone, and take nothing away: nothing is known yet of what should be there."""
        self.read_routes()
        await self.apply_routes(list(self.desired))

    def heard(self, prefixes: Iterable[Prefix]) -> None:
        """Of learned routes."""
        if self._unheard:
            self._unheard.difference_update((prefix, METRIC_BGP) for prefix in prefixes)

    def heard_all(self) -> set[RouteKey]:
        """All peers have said what they have: the routes nobody spoke of, which may go now."""
        left, self._unheard = self._unheard, set()
        for key in left:
            self.desired.pop(key, None)
        return left

    def all_keys(self) -> set[RouteKey]:
        return {*self.desired, *self.mirror}

    async def apply_routes(self, keys: Iterable[RouteKey]) -> None:
        """Bring these, and those that were refused and are due, to what is wanted. What the kernel refuses is
        set aside: no other waits for it."""
        now = asyncio.get_running_loop().time()
        put: list[RouteKey] = []
        delete: list[RouteKey] = []
        for count, key in enumerate({*keys, *self.refused.due(now)}, 1):
            wanted, seen = self.desired.get(key), self.mirror.get(key)
            if wanted == seen or (wanted is None and key in self._unheard):
                self.refused.forget(key)
            elif not self.refused.waits(key, wanted, now):
                (delete if wanted is None else put).append(key)
            if not count % ROUTES_AT_ONCE:
                await asyncio.sleep(0)
        if put or delete:
            self.changes += 1
            await self._change(put, delete, now)
        if self.refused:
            self.problems["routes"] = self.refused.words()
        else:
            self.problems.pop("routes", None)

    async def _change(self, put: list[RouteKey], delete: list[RouteKey], now: float) -> None:
        failed: dict[RouteKey, KernelError] = {}
        for ordered in (puts_in_order(put), deletes_in_order(delete)):
            while batch := list(islice(ordered, ROUTES_AT_ONCE)):
                failed |= self._apply_batch(batch)
                await asyncio.sleep(0)
        again = [key for key in failed if key in self.desired]
        if again and delete:  # what has gone may have stood between a gateway and its link
            failed = {key: err for key, err in failed.items() if key not in self.desired}
            failed |= self._apply_batch(again)
        new = [key for key, err in failed.items() if self.refused.note(key, self.desired.get(key), err, now)]
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            log.error("%s%s; tried again, later each time", failed[new[0]], more)

    def _apply_batch(self, keys: list[RouteKey]) -> dict[RouteKey, KernelError]:
        """What the kernel has refused of a batch; what it has taken is in the mirror."""
        put = {key: route for key in keys if (route := self.desired.get(key)) is not None}
        delete = {key: self.mirror[key] for key in keys if key not in put}
        failed = self._routes.apply(Delta(put, delete))
        for key in delete.keys() - failed.keys():
            del self.mirror[key]
        self.mirror.update(put if not failed else {key: put[key] for key in put.keys() - failed.keys()})
        for key in failed.keys() & put.keys():
            # The kernel may have refused one of several next hops and keep the others (IPv6).
            if key[0].version == 6 and len(put[key].next_hops) > 1:
                self.mirror[key] = Route(key[0], metric=key[1])  # as no route that is wanted
        if self.refused:
            for key in keys:
                if key not in failed:
                    self.refused.forget(key)
        return failed

    # --- bridge -----------------------------------------------------------------------------------------

    def apply_bridge(self, plan: BridgePlan) -> bool:
        """Make the bridge as planned; whether it had to be changed."""
        try:
            if self._bridges.read(plan.name) == plan:
                self.problems.pop("bridge", None)
                return False
            self._bridges.apply(plan)
        except KernelError as err:
            self._failed("bridge", err)
            return False
        self.problems.pop("bridge", None)
        log.info("bridge %s: %d gateways, MTU %d", plan.name, len(plan.gateways), plan.mtu)
        return True

    @property
    def failed_parts(self) -> set[str]:
        """Parts that are to be tried again as a whole; routes are, one by one."""
        return self.problems.keys() - {"routes"}

    def _failed(self, part: str, err: KernelError) -> None:
        if self.problems.get(part) != str(err):
            log.error("%s: %s", part, err)
        self.problems[part] = str(err)
