"""While routes change, each address is led as before or as after: never by nothing, and never a third way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.fib.order import RouteKey, deletes_in_order, in_turn
from l3net.model import Address

#: Addresses under every prefix that is tried, one in each half of the longest.
ADDRESSES = {
    4: [ip_address(f"10.0.0.{number}") for number in range(16)],
    6: [ip_address(f"fd00::{number:x}") for number in range(16)],
}
Table = dict[RouteKey, int]


def table(version: int) -> st.SearchStrategy[Table]:
    """Routes inside one /28 (/124), with a metric and a next hop each."""
    width = 32 if version == 4 else 128
    base = int(ADDRESSES[version][0])
    prefixes = [
        ip_network((base + (index << (4 - length)), width - 4 + length))
        for length in range(5)
        for index in range(1 << length)
    ]
    keys = st.tuples(st.sampled_from(prefixes), st.sampled_from([2048, 4096]))
    return st.dictionaries(keys, st.integers(0, 3), max_size=12)


def led(routes: Table, address: Address) -> int | None:
    """Where the kernel sends it: the longest prefix, then the lowest metric."""
    found = [key for key in routes if address in key[0]]
    best = min(found, key=lambda key: (-key[0].prefixlen, key[1]), default=None)
    return None if best is None else routes[best]


def changing(before: Table, after: Table) -> tuple[list[RouteKey], list[RouteKey]]:
    """What is put and what is deleted, in no order."""
    return [key for key in after if before.get(key) != after[key]], [
        key for key in before if key not in after
    ]


def puts_in_order(keys: Iterable[RouteKey]) -> Iterator[RouteKey]:
    """By their turns, those of one metric as prefixes."""
    learned = [prefix for prefix, metric in keys if metric == 2048]
    for prefixes, others in in_turn(learned, 2048, [key for key in keys if key[1] != 2048]):
        yield from ((prefix, 2048) for prefix in prefixes)
        yield from others


def states(before: Table, after: Table, steps: Iterable[RouteKey]) -> Iterator[Table]:
    """The table after each step: a key that `after` has is put, any other deleted."""
    now = dict(before)
    for key in steps:
        if key in after:
            now[key] = after[key]
        else:
            del now[key]
        yield now


def strays(before: Table, after: Table, steps: Iterable[RouteKey], version: int) -> list[Address]:
    """Addresses that are led neither as before nor as after at some step."""
    return [
        address
        for now in states(before, after, steps)
        for address in ADDRESSES[version]
        if led(now, address) not in (led(before, address), led(after, address))
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_each_address_is_led_as_before_or_as_after(version: int) -> None:
    @given(table(version), table(version))
    def law(before: Table, after: Table) -> None:
        put, delete = changing(before, after)
        steps = [*puts_in_order(put), *deletes_in_order(delete)]
        assert sorted(map(str, steps)) == sorted(map(str, [*put, *delete]))
        assert strays(before, after, steps, version) == []

    law()


@pytest.mark.parametrize("version", [4, 6])
def test_any_order_of_puts_and_then_deletes_uncovers_nothing(version: int) -> None:
    """The half of the law that does not depend on the order within either."""

    @given(table(version), table(version), st.randoms(use_true_random=False))
    def law(before: Table, after: Table, chance: object) -> None:
        put, delete = changing(before, after)
        for each in (put, delete):
            chance.shuffle(each)  # type: ignore[attr-defined]
        for now in states(before, after, [*put, *delete]):
            for address in ADDRESSES[version]:
                covered = led(before, address) is not None and led(after, address) is not None
                assert not covered or led(now, address) is not None

    law()


def test_the_control_other_orders_break_the_law() -> None:
    cover, half = ((ip_network(text), 2048) for text in ("10.0.0.0/28", "10.0.0.0/29"))
    # A specific goes while its cover comes: deleted first, nothing leads there.
    before, after = {half: 1}, {cover: 2}
    assert strays(before, after, [half, cover], 4) and not strays(before, after, [cover, half], 4)
    # A cover changes while a specific comes: changed first, the half is led the cover's new way.
    before, after = {cover: 1}, {cover: 2, half: 3}
    assert strays(before, after, [cover, half], 4) and not strays(before, after, [half, cover], 4)
    # Of two that go: the more specific first, its half is led by the other for a moment.
    before, after = {cover: 1, half: 2}, {}
    assert strays(before, after, [half, cover], 4) and not strays(before, after, [cover, half], 4)
