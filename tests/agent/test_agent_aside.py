"""Many routes are put beside the loop: it serves others meanwhile; what is heard meanwhile is looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from l3net.agent.dirty import Dirty, Marks
from l3net.agent.kernel import ASIDE, ROUTES_AT_ONCE, KernelSide, RouteKey
from l3net.agent.noticing import Noticing
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import NextHop, Route
from l3net.naming import METRIC_BGP
from l3net.ports import OwnRouteSeen, RouteSeen

HOPS = frozenset({NextHop(ip_address("10.0.0.2"), "up0")})
LIMIT = 20.0


def routes(number: int) -> dict[RouteKey, Route]:
    """Half of them of either family."""
    networks = [f"10.9.{each >> 8}.{each & 255}/32" for each in range(number // 2)]
    networks += [f"fd09::{each:x}/128" for each in range(number - number // 2)]
    found = [Route(ip_network(each), HOPS, metric=METRIC_BGP) for each in networks]
    return {(route.prefix, route.metric): route for route in found}


class SlowTable:
    """A kernel that works until it is let go on, and refuses some routes."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.held: dict[RouteKey, Route] = {}
        self.refuses: set[RouteKey] = set()
        self.aside: list[bool] = []
        self.prepared = 0

    def read(self) -> dict[RouteKey, Route]:
        return dict(self.held)

    def prepare(self, delta: Delta[RouteKey, Route]) -> Callable[[], dict[RouteKey, KernelError]]:
        self.prepared += 1
        return partial(self.apply, delta)

    def apply(self, delta: Delta[RouteKey, Route]) -> dict[RouteKey, KernelError]:
        self.aside.append(threading.current_thread() is not threading.main_thread())
        self.begun.set()
        assert self.go_on.wait(LIMIT)
        self.held.update({key: route for key, route in delta.put.items() if key not in self.refuses})
        for key in delta.delete:
            self.held.pop(key, None)
        return {key: KernelError(f"route {key[0]}", 101) for key in self.refuses & delta.put.keys()}


def test_the_loop_runs_while_the_kernel_works_and_each_refusal_is_known() -> None:
    async def run() -> None:
        table, wanted = SlowTable(), routes(ASIDE)
        kernel = KernelSide(table, Any)  # type: ignore[arg-type]
        kernel.desired = dict(wanted)
        table.refuses = {list(wanted)[3], list(wanted)[-1]}
        applying = asyncio.create_task(kernel.apply_routes(wanted))
        while not table.begun.is_set():  # noqa: ASYNC110 - set in the thread
            await asyncio.sleep(0.001)
        assert kernel.changing
        assert not kernel.mirror
        table.go_on.set()
        await asyncio.wait_for(applying, LIMIT)
        assert table.aside == [True]
        assert not kernel.changing
        assert (
            kernel.mirror
            == table.held
            == {key: route for key, route in wanted.items() if key not in table.refuses}
        )
        assert all(key in kernel.refused for key in table.refuses)
        kernel.desired = {}
        await kernel.apply_routes(wanted)
        assert kernel.mirror == table.held == {}

    asyncio.run(run())


def test_the_next_are_made_ready_while_the_kernel_works() -> None:
    """And are carried out after those, in their order: an address is never led in another way."""

    async def run() -> None:
        table, wanted = SlowTable(), routes(2 * ROUTES_AT_ONCE + ASIDE)
        kernel = KernelSide(table, Any)  # type: ignore[arg-type]
        kernel.desired = dict(wanted)
        applying = asyncio.create_task(kernel.apply_routes(list(wanted)))
        async with asyncio.timeout(LIMIT):
            while table.prepared < 2:  # noqa: ASYNC110 - counted beside a thread
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
        assert (len(table.aside), table.prepared, len(table.held)) == (1, 2, 0)
        table.go_on.set()
        await asyncio.wait_for(applying, LIMIT)
        assert [key[0].prefixlen for key in table.held] == sorted(
            (key[0].prefixlen for key in wanted), reverse=True
        )
        assert kernel.mirror == wanted
        assert table.aside[:2] == [True] * 2

    asyncio.run(run())


def test_a_few_are_put_at_once() -> None:
    """A single change waits for no thread."""

    async def run() -> None:
        table, wanted = SlowTable(), routes(ASIDE - 1)
        table.go_on.set()
        kernel = KernelSide(table, Any)  # type: ignore[arg-type]
        kernel.desired = dict(wanted)
        await kernel.apply_routes(wanted)
        assert table.aside == [False]
        assert kernel.mirror == wanted

    asyncio.run(run())


@pytest.mark.parametrize("changing", [True, False])
def test_what_is_heard_meanwhile_of_routes_not_known_yet_has_them_read(changing: bool) -> None:
    """Somebody takes a route away, or puts one in its place, that we have put a moment ago."""

    async def run() -> None:
        kernel = KernelSide(SlowTable(), Any)  # type: ignore[arg-type]
        (key, route), *_ = routes(2).items()
        kernel.desired[key] = route
        for notice in (OwnRouteSeen(route, gone=True), RouteSeen(key, gone=False)):
            marks = Marks()
            marks.dirty = Dirty.NOTHING
            noticing = Noticing(kernel, SimpleNamespace(), SimpleNamespace(), marks)  # type: ignore[arg-type]
            kernel.changing = changing
            noticing.heard(notice)
            assert (Dirty.ROUTES in marks.dirty) is changing

    asyncio.run(run())
