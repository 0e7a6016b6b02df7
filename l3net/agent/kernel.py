"""The agent's kernel side: routes and bridge brought to what is wanted, one part after another.

What fails is remembered under the part's name and tried again, each route for itself; it never stops the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeAlias, TypeVar

from l3net.agent.refused import Refused
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.fib.order import deletes_in_order, in_turn
from l3net.model import BridgePlan, Prefix, Route
from l3net.naming import METRIC_BGP
from l3net.ports import Bridges, RouteTable

log = logging.getLogger("l3net.kernel")

T = TypeVar("T")
RouteKey = tuple[Prefix, int]
_Turn: TypeAlias = tuple[list[Prefix], list[RouteKey]]
#: Wants the routes to prefixes, and says their keys.
_Want: TypeAlias = Callable[[list[Prefix]], Iterable[RouteKey]]
#: Routes changed in one go; between two goes the loop serves everything else.
ROUTES_AT_ONCE = 4096
#: So many are worth a thread.
ASIDE = 512


def _in_parts(those: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(those)
    while some := list(islice(rest, ROUTES_AT_ONCE)):
        yield some


def _looked_at(turns: Iterable[_Turn], want: _Want) -> Iterator[Iterable[RouteKey]]:
    for prefixes, others in turns:
        yield from map(want, _in_parts(prefixes))
        yield from _in_parts(others)


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

    async def apply_routes(
        self,
        keys: Iterable[RouteKey],
        learned: Collection[Prefix] = (),
        want: _Want = lambda _prefixes: (),
    ) -> None:
        """Bring these, and those that were refused and are due, to what is wanted. What the kernel refuses is
        set aside: no other waits for it. `want` wants the routes to prefixes in `learned` when it is their
        turn, and says the keys: of a table, some thousands pass all steps while the cache holds them."""
        now = asyncio.get_running_loop().time()
        keys = {*keys, *self.refused.due(now)}
        if learned:
            keys = {key for key in keys if key[1] != METRIC_BGP or key[0] not in learned}
        gone: list[RouteKey] = []
        failed = await self._apply_in_turn(self._puts(in_turn(learned, METRIC_BGP, keys), want, gone, now))
        if gone:
            again = {key: self.desired[key] for key in failed}
            failed |= await self._apply_in_turn(self._deletes(gone))
            if again:  # what has gone may have stood between a gateway and its link
                failed = {key: err for key, err in failed.items() if key not in again}
                failed |= await self._apply_in_turn(iter((Delta(put=again),)))
        self._note_refusals(failed, now)

    def _puts(
        self,
        turns: Iterable[_Turn],
        want: _Want,
        gone: list[RouteKey],
        now: float,
    ) -> Iterator[Delta[RouteKey, Route]]:
        """What is to be put, a part each time so many were looked at; what is to go is added to `gone`."""
        desired, mirror, unheard, refused = self.desired, self.mirror, self._unheard, self.refused
        some_refused, looked = bool(refused), 0
        put: dict[RouteKey, Route] = {}
        for keys in _looked_at(turns, want):
            for key in keys:
                wanted, seen = desired.get(key), mirror.get(key)
                if wanted is seen or wanted == seen or (wanted is None and key in unheard):
                    if some_refused:
                        refused.forget(key)
                elif some_refused and refused.waits(key, wanted, now):
                    pass
                elif wanted is None:
                    gone.append(key)
                else:
                    put[key] = wanted
                looked += 1
            if looked >= ROUTES_AT_ONCE:
                yield Delta(put=put)
                put, looked = {}, 0
        yield Delta(put=put)

    def _deletes(self, gone: Iterable[RouteKey]) -> Iterator[Delta[RouteKey, Route]]:
        for keys in _in_parts(deletes_in_order(gone)):
            # By the very prefixes that the tables hold: a look-up by another that is equal compares them.
            some = [self.mirror[key] for key in keys]
            yield Delta(delete={(route.prefix, route.metric): route for route in some})

    def _note_refusals(self, failed: Mapping[RouteKey, KernelError], now: float) -> None:
        new = [key for key, err in failed.items() if self.refused.note(key, self.desired.get(key), err, now)]
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            log.error("%s%s; tried again, later each time", failed[new[0]], more)
        if self.refused:
            self.problems["routes"] = self.refused.words()
        else:
            self.problems.pop("routes", None)

    async def _apply_in_turn(self, deltas: Iterator[Delta[RouteKey, Route]]) -> dict[RouteKey, KernelError]:
        """What the kernel has refused; what it has taken is in the mirror. Many routes are put beside the
        loop: while the kernel works, the next are made ready and others are served."""
        failed: dict[RouteKey, KernelError] = {}
        prepared = ((delta, self._routes.prepare(delta) if delta else dict) for delta in deltas)
        now = next(prepared, None)
        try:
            while now is not None:
                delta, carry_out = now
                if len(delta.put) + len(delta.delete) < ASIDE:
                    failed |= self._taken(delta, carry_out())
                    now = next(prepared, None)
                else:
                    self.changing = True
                    working = asyncio.get_running_loop().run_in_executor(None, carry_out)
                    await asyncio.sleep(0)  # the thread begins
                    try:
                        now = next(prepared, None)
                    finally:
                        failed |= self._taken(delta, await working)
                await asyncio.sleep(0)
        finally:
            self.changing = False
        return failed

    def _taken(
        self, delta: Delta[RouteKey, Route], failed: dict[RouteKey, KernelError]
    ) -> dict[RouteKey, KernelError]:
        """What has failed; what has not is in the mirror."""
        if not delta:
            return failed
        self.changes += 1
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
