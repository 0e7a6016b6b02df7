"""The agent's kernel side: routes and bridge brought to what is wanted, one part after another.

What fails is remembered under the part's name and tried again; it never stops the other parts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from itertools import islice

from l3net.delta import Delta
from l3net.errors import KernelError
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

    async def hold(self) -> set[RouteKey]:
        """Put back what has gone, and take nothing away: nothing is known yet of what should be there."""
        self.read_routes()
        return await self.apply_routes(list(self.desired))

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

    async def apply_routes(self, keys: Iterable[RouteKey]) -> set[RouteKey]:
        """Bring these to what is wanted; what failed is returned and stays dirty."""
        pending = iter(keys)
        dirty: set[RouteKey] = set()
        while batch := list(islice(pending, ROUTES_AT_ONCE)):
            dirty |= self._apply_batch(batch)
            await asyncio.sleep(0)
        if not dirty:
            self.problems.pop("routes", None)
        return dirty

    def _apply_batch(self, keys: list[RouteKey]) -> set[RouteKey]:
        put: dict[RouteKey, Route] = {}
        delete: dict[RouteKey, Route] = {}
        for key in keys:
            wanted, seen = self.desired.get(key), self.mirror.get(key)
            if wanted is not None and wanted != seen:
                put[key] = wanted
            elif wanted is None and seen is not None and key not in self._unheard:
                delete[key] = seen
        if not put and not delete:
            return set()
        self.changes += 1
        errors = self._routes.apply(Delta(put, delete))
        if errors:
            self._failed("routes", *errors)
            self.read_routes()
            return {key for key in (*put, *delete) if self.mirror.get(key) != self.desired.get(key)}
        self.mirror.update(put)
        for key in delete:
            self.mirror.pop(key, None)
        return set()

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
    def dirty(self) -> bool:
        return bool(self.problems)

    def _failed(self, part: str, *errors: KernelError) -> None:
        err = f"{errors[0]}" + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")
        if self.problems.get(part) != err:
            log.error("%s: %s", part, err)
        self.problems[part] = err
