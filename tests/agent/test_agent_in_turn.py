"""Of a table looked at in parts, each address is led as before or as after, and the end is as wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.agent.kernel import KernelSide, RouteKey
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import Address, NextHop, Prefix, Route
from l3net.naming import METRIC_BGP

ADDRESSES = [ip_address(f"10.0.0.{number}") for number in range(16)]
PREFIXES = [
    ip_network((int(ADDRESSES[0]) + (index << (4 - length)), 28 + length))
    for length in range(5)
    for index in range(1 << length)
]
ROUTES = st.dictionaries(
    st.tuples(st.sampled_from(PREFIXES), st.sampled_from([METRIC_BGP - 1, METRIC_BGP, METRIC_BGP + 1])),
    st.integers(1, 3),
    max_size=16,
)
Numbered = dict[RouteKey, int]


def made(numbers: Numbered) -> dict[RouteKey, Route]:
    return {
        key: Route(key[0], frozenset({NextHop(ip_address(f"192.0.2.{number}"), "up0")}), metric=key[1])
        for key, number in numbers.items()
    }


def led(held: dict[RouteKey, Route], address: Address) -> Route | None:
    """By the longest prefix, then the lowest metric."""
    keys = [key for key in held if address in key[0]]
    best = min(keys, key=lambda key: (-key[0].prefixlen, key[1]), default=None)
    return None if best is None else held[best]


def hops(route: Route | None) -> Any:
    return None if route is None else route.next_hops


class Table:
    """A kernel that is looked at after each route."""

    def __init__(self, held: dict[RouteKey, Route], seen: Callable[[dict[RouteKey, Route]], None]) -> None:
        self.held, self._seen = dict(held), seen

    def read(self) -> dict[RouteKey, Route]:
        return dict(self.held)

    def prepare(self, delta: Delta[RouteKey, Route]) -> Callable[[], dict[RouteKey, KernelError]]:
        def carry_out() -> dict[RouteKey, KernelError]:
            for key, route in delta.put.items():
                self.held[key] = route
                self._seen(self.held)
            for key in delta.delete:
                del self.held[key]
                self._seen(self.held)
            return {}

        return carry_out


@pytest.mark.parametrize("aside", [0, 100])
def test_parts_are_brought_to_what_is_wanted(aside: int) -> None:
    @given(ROUTES, ROUTES)
    def law(old: Numbered, new: Numbered) -> None:
        before, after = made(old), made(new)

        def seen(held: dict[RouteKey, Route]) -> None:
            for address in ADDRESSES:
                ways = [hops(led(table, address)) for table in (before, after)]
                assert hops(led(held, address)) in ways

        async def run() -> None:
            table = Table(before, seen)
            kernel = KernelSide(table, Any)  # type: ignore[arg-type]
            kernel.mirror, kernel.desired = dict(before), dict(before)

            def want(prefixes: Iterable[Prefix]) -> list[RouteKey]:
                keys = [(prefix, METRIC_BGP) for prefix in prefixes]
                for key in keys:
                    kernel.desired.pop(key, None)
                    if key in after:
                        kernel.desired[key] = after[key]
                return keys

            learned = {prefix for prefix, metric in {*before, *after} if metric == METRIC_BGP}
            rest = {key for key in {*before, *after} if key[1] != METRIC_BGP}
            for key in rest:
                kernel.desired.pop(key, None)
                if key in after:
                    kernel.desired[key] = after[key]
            stale = {(prefix, METRIC_BGP) for prefix in learned}  # not looked at before they are wanted
            await kernel.apply_routes(rest | stale, learned, want)
            assert table.held == kernel.mirror == kernel.desired == after

        with patch("l3net.agent.kernel.ROUTES_AT_ONCE", 2), patch("l3net.agent.kernel.ASIDE", aside):
            asyncio.run(run())

    law()


def test_a_part_that_cannot_be_decided_loses_nothing_of_the_one_before() -> None:
    """What the kernel was about to take is known, and the next pass takes it away where it is to go."""

    async def run() -> None:
        new = made(
            {(PREFIXES[-1], METRIC_BGP): 1, (PREFIXES[-2], METRIC_BGP): 1, (PREFIXES[0], METRIC_BGP): 1}
        )
        table = Table({}, lambda _held: None)
        kernel = KernelSide(table, Any)  # type: ignore[arg-type]

        def want(prefixes: Iterable[Prefix]) -> list[RouteKey]:
            keys = [(prefix, METRIC_BGP) for prefix in prefixes]
            if PREFIXES[0] in {key[0] for key in keys}:
                raise RuntimeError("undecided")
            kernel.desired.update({key: new[key] for key in keys})
            return keys

        with pytest.raises(RuntimeError):
            await kernel.apply_routes((), {key[0] for key in new}, want)
        assert len(table.held) == 2
        assert kernel.mirror == table.held
        assert not kernel.changing

    with patch("l3net.agent.kernel.ROUTES_AT_ONCE", 2), patch("l3net.agent.kernel.ASIDE", 1):
        asyncio.run(run())
