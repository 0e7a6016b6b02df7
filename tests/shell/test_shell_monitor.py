"""Kernel notifications: what others do is told, what we did is not, however much it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from l3net.delta import diff
from l3net.fib.desired import blackholes
from l3net.naming import RTPROT_L3NET
from l3net.shell import monitor
from l3net.shell.monitor import KernelMonitor, Seen
from l3net.shell.routes import KernelRoutes

pytestmark = pytest.mark.netns
Ip = Callable[[str], str]
MANY = 3000


def seen_meanwhile(own_port: int, act: Callable[[], object]) -> list[Seen]:
    """What a monitor tells of what happens in `act`."""
    found: list[Seen] = []

    async def watch() -> None:
        watching = KernelMonitor(lambda seen, _kind, _body: found.append(seen), RTPROT_L3NET, own_port)
        watching.start()
        try:
            act()
            await asyncio.sleep(0.2)
        finally:
            watching.stop()

    asyncio.run(watch())
    return found


def blocks(version: int) -> list[str]:
    if version == 4:
        return [f"10.{100 + n // 256}.{n % 256}.0/24" for n in range(MANY)]
    return [f"fd00:{n:x}::/64" for n in range(MANY)]


@pytest.mark.parametrize("version", [4, 6])
def test_our_own_routes_drown_nothing(own_netns: Ip, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(monitor, "RECEIVE_BUFFER", 1 << 16)
    table = KernelRoutes()
    wanted = blackholes([ip_network(block) for block in blocks(version)])

    def put() -> None:
        assert table.apply(diff(wanted, {})) == []
        own_netns("route add blackhole 192.0.2.0/24 proto 108 metric 7")
        own_netns("route add blackhole 198.51.100.0/24")

    def delete() -> None:
        assert table.apply(diff({}, wanted)) == []

    assert seen_meanwhile(table.port, put) == [Seen.OWN_ROUTE, Seen.ROUTE]
    assert seen_meanwhile(table.port, delete) == []


def test_those_of_another_process_are_told(own_netns: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same routes, from a port that is not ours, are too many for that buffer."""
    monkeypatch.setattr(monitor, "RECEIVE_BUFFER", 1 << 16)
    table = KernelRoutes()
    wanted = blackholes([ip_network(block) for block in blocks(4)])
    found = seen_meanwhile(table.port + 1, lambda: table.apply(diff(wanted, {})))
    assert Seen.LOST in found
    assert Seen.OWN_ROUTE in found


def test_addresses_and_links_are_told(own_netns: Ip) -> None:
    def change() -> None:
        own_netns("link add up0 type veth peer name down0")
        own_netns("addr add 10.0.0.1/24 dev up0")
        own_netns("link del up0")

    found = set(seen_meanwhile(KernelRoutes().port, change))
    assert {Seen.LINK, Seen.ADDRESS} <= found
