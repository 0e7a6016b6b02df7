"""The agent's kernel side: routes and bridge brought to what is wanted, one part after another.

What fails is remembered under the part's name and tried again, each route for itself; it never stops the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
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
#: So many are worth a thread.
ASIDE = 512


def _in_parts(keys: Iterator[RouteKey]) -> Iterator[list[RouteKey]]:
    while some := list(islice(keys, ROUTES_AT_ONCE)):
        yield some


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
        #: Whether routes are being changed that `mirror` does not know of yet.
        self.changing = False
        #: Called with what the kernel has taken, while `mirror` still holds what was before.
        self.on_applied: Callable[[Delta[RouteKey, Route]], None] = lambda _delta: None

    # --- routes ------------------------------------------------------------------------------------------

    def read_routes(self) -> None:
        """Read back everything of ours."""
        try:
            self.mirror = self._known(self._routes.read())
            self.problems.pop("read routes", None)
        except KernelError as err:
            self._failed("read routes", err)

    def _known(self, seen: dict[RouteKey, Route]) -> dict[RouteKey, Route]:
        """The same, of the objects that are wanted already where they are equal: of a table of 100,000 routes
        a second one is 60 MiB."""
        found: dict[RouteKey, Route] = {}
        for key, wanted in self.desired.items():
            route = seen.pop(key, None)
            if route is not None:
                found[key] = wanted if route is wanted or route == wanted else route
        found.update(seen)
        return found

    def keep_until_heard(self, known: Mapping[RouteKey, Route]) -> None:
        """At our start: what is there, and what an agent before us knew of, is wanted as it is until we know
        better; learned routes until there is a path again, or all peers have spoken."""
        self.desired = {**known, **self.mirror}
        self._unheard = {key for key in self.desired if key[1] == METRIC_BGP}

    async def hold(self) -> None:
        """Put back what has gone, and take nothing away: nothing is known yet of what should be there."""
        self.read_routes()
        await self.apply_routes(list(self.desired))

    def heard(self, keys: Iterable[RouteKey]) -> None:
        """There is a path to these."""
        if self._unheard:
            self._unheard.difference_update(keys)

    def waits(self, key: RouteKey) -> bool:
        """Whether a learned route stays until all peers have spoken."""
        return key in self._unheard

    @property
    def unheard(self) -> int:
        """How many learned routes are kept to which there is no path yet since our start."""
        return len(self._unheard)

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
        due = self.refused.due(now)
        put: list[RouteKey] = []  # no pairs with the routes: the garbage collector would look at all of them
        delete: list[RouteKey] = []
        desired, mirror, unheard, some_refused = self.desired, self.mirror, self._unheard, bool(self.refused)
        for count, key in enumerate({*keys, *due} if due else keys, 1):  # each look-up hashes a prefix
            wanted, seen = desired.get(key), mirror.get(key)
            if wanted is seen or wanted == seen or (wanted is None and key in unheard):
                self.refused.forget(key)
            elif some_refused and self.refused.waits(key, wanted, now):
                pass
            else:
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
        puts, deletes = puts_in_order(put), deletes_in_order(delete)
        desired, mirror = self.desired, self.mirror
        failed = await self._apply_in_turn(
            Delta(put={key: desired[key] for key in some}) for some in _in_parts(puts)
        )
        again = {key: desired[key] for key in failed} if delete else {}
        # By the very prefixes that the tables hold: a look-up by another that is equal compares them.
        going = ([mirror[key] for key in some] for some in _in_parts(deletes))
        failed |= await self._apply_in_turn(
            Delta(delete={(route.prefix, route.metric): route for route in some}) for some in going
        )
        if again:  # what has gone may have stood between a gateway and its link
            failed = {key: err for key, err in failed.items() if key not in again}
            failed |= await self._apply_in_turn(iter((Delta(put=again),)))
        new = [key for key, err in failed.items() if self.refused.note(key, self.desired.get(key), err, now)]
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            log.error("%s%s; tried again, later each time", failed[new[0]], more)

    async def _apply_in_turn(self, deltas: Iterator[Delta[RouteKey, Route]]) -> dict[RouteKey, KernelError]:
        """What the kernel has refused; what it has taken is in the mirror. Many routes are put beside the
        loop: while the kernel works, the next are made ready and others are served."""
        failed: dict[RouteKey, KernelError] = {}
        prepared = ((delta, self._routes.prepare(delta)) for delta in deltas)
        now = next(prepared, None)
        try:
            while now is not None:
                delta, carry_out = now
                if len(delta.put) + len(delta.delete) < ASIDE:
                    refused = carry_out()
                    now = next(prepared, None)
                else:
                    self.changing = True
                    working = asyncio.get_running_loop().run_in_executor(None, carry_out)
                    await asyncio.sleep(0)  # the thread begins
                    try:
                        now = next(prepared, None)
                    finally:
                        refused = await working
                self._take(delta, refused)
                failed |= refused
                await asyncio.sleep(0)
        finally:
            self.changing = False
        return failed

    def _take(self, delta: Delta[RouteKey, Route], failed: dict[RouteKey, KernelError]) -> None:
        taken = delta
        if failed:
            taken = Delta(
                {key: route for key, route in delta.put.items() if key not in failed},
                {key: route for key, route in delta.delete.items() if key not in failed},
            )
        self.on_applied(taken)
        self.mirror.update(taken.put)
        for key in taken.delete:
            self.mirror.pop(key, None)
        for key in failed.keys() & delta.put.keys():
            # The kernel may have refused one of several next hops and keep the others (IPv6).
            if key[0].version == 6 and len(delta.put[key].next_hops) > 1:
                self.mirror[key] = Route(key[0], metric=key[1])  # as no route that is wanted
        if self.refused:
            for key in (*taken.put, *taken.delete):
                self.refused.forget(key)

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
