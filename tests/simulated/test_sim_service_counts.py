"""Totals of connections by service: they only grow, whatever the kernel's counters do."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from ipaddress import ip_address

import pytest
from simloop import simulate

from l3net.agent.servicecounting import AT_LEAST, EVERY, ServiceCounting
from l3net.errors import KernelError
from l3net.model import ObjectName, Prefix, ServerKey

WEB, DNS = ObjectName("default", "web"), ObjectName("kube-system", "dns")
KEYS: dict[ServerKey, ObjectName] = {
    (ip_address("10.96.0.10"), "tcp", 80): WEB,
    (ip_address("fd00::a"), "tcp", 80): WEB,
    (ip_address("10.96.0.2"), "udp", 53): DNS,
}
FOUR, SIX, UDP = KEYS


class Counters:
    def __init__(self) -> None:
        self.counted: dict[ServerKey, int] = {}
        self.error: KernelError | None = None
        self.followed = 0

    def follow(self, wanted: Collection[ServerKey], ports_on: Collection[Prefix]) -> None:
        if self.error is not None:
            raise self.error
        self.counted = {key: self.counted.get(key, 0) for key in wanted}
        self.followed += 1

    def change(self, come: Collection[ServerKey], gone: Collection[ServerKey]) -> None:
        if self.error is not None:
            raise self.error
        self.counted |= dict.fromkeys(come, 0)
        for key in gone:
            del self.counted[key]

    def read(self) -> Mapping[ServerKey, int]:
        if self.error is not None:
            raise self.error
        return {key: count for key, count in self.counted.items() if count}


def test_totals_only_grow() -> None:
    async def scenario() -> None:
        kernel, keys = Counters(), dict(KEYS)
        counting = ServiceCounting(kernel, lambda: (keys, ()), keys.get)
        await counting.read()
        kernel.counted |= {FOUR: 3, SIX: 2, UDP: 7}
        await counting.read()
        assert counting.totals == {WEB: 5, DNS: 7}
        kernel.counted |= {FOUR: 1}  # the table was made anew, and one has begun since
        await counting.read()
        assert counting.totals == {WEB: 6, DNS: 7}
        kernel.error = KernelError("nft", 1)
        await counting.read()
        assert counting.problem and counting.totals == {WEB: 6, DNS: 7}
        kernel.error = None
        del keys[UDP]  # the service is gone
        await counting.read()
        assert (counting.problem, counting.totals) == ("", {WEB: 6})
        again = ServiceCounting(kernel, lambda: (keys, ()), keys.get)
        await again.read()
        assert again.totals == {WEB: 3}, "an agent that comes later goes on from what the kernel has"

    simulate(scenario())


def test_what_is_as_it_was_is_read_and_not_gone_through() -> None:
    """But now and then: nobody should have to be told of a change for ever."""

    async def scenario() -> None:
        kernel, keys = Counters(), dict(KEYS)
        counting = ServiceCounting(kernel, lambda: (keys, ()), keys.get)
        running = asyncio.create_task(counting.run())
        await asyncio.sleep(EVERY * 3 + 1)
        assert kernel.followed == 1
        kernel.counted |= {FOUR: 3}
        await asyncio.sleep(EVERY)
        assert (kernel.followed, counting.totals) == (1, {WEB: 3})
        del keys[UDP]
        await asyncio.sleep(AT_LEAST + EVERY)
        assert (kernel.followed, set(kernel.counted)) == (2, {FOUR, SIX})
        running.cancel()

    simulate(scenario())


def test_of_ten_thousand_services_those_that_counted_are_looked_at() -> None:
    """All of them only where one has gone, or an address is another service's."""

    async def scenario() -> None:
        kernel, looked = Counters(), list[ServerKey]()
        keys = {
            (ip_address("10.97.0.0") + each, "tcp", 80): ObjectName("x", str(each)) for each in range(500)
        }
        first, second, *_ = keys

        def owner(key: ServerKey) -> ObjectName | None:
            looked.append(key)
            return keys.get(key)

        counting = ServiceCounting(kernel, lambda: (keys, ()), owner)
        running = asyncio.create_task(counting.run())
        kernel.counted[first] = 1
        await asyncio.sleep(EVERY + 1)
        for count in (2, 3):
            looked.clear()
            kernel.counted |= {first: count, second: 1}
            await asyncio.sleep(EVERY)
            assert counting.totals == {keys[first]: count, keys[second]: 1}
            assert set(looked) == {first, second}
        gone = keys.pop(second)
        counting.look({second: False})
        await asyncio.sleep(EVERY)
        assert gone not in counting.totals
        before = keys[first]
        keys[first] = ObjectName("x", "other")
        kernel.counted[first] = 5
        await asyncio.sleep(EVERY)
        assert counting.totals == {keys[first]: 2} and before not in counting.totals
        running.cancel()

    simulate(scenario())


def test_a_service_with_an_address_left_keeps_its_total() -> None:
    async def scenario() -> None:
        kernel, keys = Counters(), dict(KEYS)
        counting = ServiceCounting(kernel, lambda: (keys, ()), keys.get)
        running = asyncio.create_task(counting.run())
        await asyncio.sleep(1)
        kernel.counted |= {FOUR: 3}
        await asyncio.sleep(EVERY)
        del keys[FOUR]
        counting.look({FOUR: False})
        await asyncio.sleep(EVERY)
        assert counting.totals == {WEB: 3}
        running.cancel()

    simulate(scenario())


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_service_that_comes_is_counted_at_once(all_of_them: bool) -> None:
    """Where some come and go, all the others are not looked at for that."""

    async def scenario() -> None:
        kernel, keys = Counters(), dict[ServerKey, ObjectName]()
        counting = ServiceCounting(kernel, lambda: (keys, ()), keys.get)
        running = asyncio.create_task(counting.run())
        await asyncio.sleep(1)
        keys |= KEYS
        counting.look(None if all_of_them else dict.fromkeys(KEYS, True))
        await asyncio.sleep(0.1)
        assert set(kernel.counted) == set(KEYS)
        assert kernel.followed == 1 + all_of_them
        del keys[UDP]
        counting.look(None if all_of_them else {UDP: False})
        await asyncio.sleep(0.1)
        assert set(kernel.counted) == {FOUR, SIX}
        kernel.error = KernelError("nft", 1)
        counting.look({UDP: True})
        await asyncio.sleep(0.1)
        assert counting.problem
        kernel.error, keys[UDP] = None, KEYS[UDP]
        await asyncio.sleep(EVERY + 1)
        assert set(kernel.counted) == set(KEYS) and not counting.problem
        running.cancel()

    simulate(scenario())
