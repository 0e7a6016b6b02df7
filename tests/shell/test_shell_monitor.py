"""Kernel notifications: what others do is told, what we did is not, however much it was."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from l3net.cni.guard import Element
from l3net.delta import diff
from l3net.fib.desired import blackholes
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.naming import RTPROT_L3NET
from l3net.ports import (
    ForwardingOff,
    GuardSeen,
    KernelNotice,
    LinkSeen,
    NoticesLost,
    OwnRouteSeen,
    RouteSeen,
    TableSeen,
    WayGone,
)
from l3net.shell.kernel import monitor
from l3net.shell.kernel.monitor import KernelMonitor
from l3net.shell.kernel.nft import NftTable
from l3net.shell.kernel.nftguard import NftGuard
from l3net.shell.kernel.routes import KernelRoutes

pytestmark = pytest.mark.netns
Ip = Callable[[str], str]
MANY = 3000


def seen_meanwhile(own_port: int, act: Callable[[], object], guard_port: int = 0) -> list[type]:
    """What a monitor tells of what happens in `act`."""
    found: list[type] = []

    async def watch() -> None:
        watching = KernelMonitor(RTPROT_L3NET, own_port, dict, lambda: guard_port)
        watching.start(lambda notice: found.append(type(notice)))
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
        assert table.apply(diff(wanted, {})) == {}
        own_netns("route add blackhole 192.0.2.0/24 proto 108 metric 7")
        own_netns("route add blackhole 198.51.100.0/24")

    def delete() -> None:
        assert table.apply(diff({}, wanted)) == {}

    assert seen_meanwhile(table.port, put) == [OwnRouteSeen, RouteSeen]
    assert seen_meanwhile(table.port, delete) == []


@pytest.mark.parametrize("version", [4, 6])
def test_of_the_main_table_alone(own_netns: Ip, version: int) -> None:
    """Those of other tables with our protocol are none of what a node learns."""
    prefix = {4: "192.0.2.0/24", 6: "2001:db8::/64"}[version]

    def change() -> None:
        for table in (78, 77):
            own_netns(f"-{version} route add default dev lo proto 108 table {table}")
            own_netns(f"-{version} route del default dev lo proto 108 table {table}")
        own_netns(f"-{version} route add {prefix} dev lo proto 108")

    assert seen_meanwhile(KernelRoutes().port, change) == [OwnRouteSeen]


def test_those_of_another_process_are_told(own_netns: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same routes, from a port that is not ours, are too many for that buffer."""
    monkeypatch.setattr(monitor, "RECEIVE_BUFFER", 1 << 16)
    table = KernelRoutes()
    wanted = blackholes([ip_network(block) for block in blocks(4)])
    found = seen_meanwhile(table.port + 1, lambda: table.apply(diff(wanted, {})))
    assert NoticesLost in found
    assert OwnRouteSeen in found


def test_addresses_and_links_are_told(own_netns: Ip) -> None:
    def change() -> None:
        own_netns("link add up0 type veth peer name down0")
        own_netns("addr add 10.0.0.1/24 dev up0")
        own_netns("link del up0")

    found = set(seen_meanwhile(KernelRoutes().port, change))
    assert LinkSeen in found


def heard_meanwhile(act: Callable[[], object]) -> list[KernelNotice]:
    """As `seen_meanwhile`, in full."""
    found: list[KernelNotice] = []

    async def watch() -> None:
        watching = KernelMonitor(RTPROT_L3NET, 0, dict)
        watching.start(found.append)
        try:
            act()
            await asyncio.sleep(0.2)
        finally:
            watching.stop()

    asyncio.run(watch())
    return found


def sysctl(*settings: str) -> None:
    subprocess.run(["sysctl", "-q", "-w", *settings], check=True)


@pytest.mark.parametrize("setting", ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
def test_forwarding_that_somebody_turns_off_is_told(own_netns: Ip, setting: str) -> None:
    sysctl(f"{setting}=0")
    own_netns("link add up0 type veth peer name down0")
    assert ForwardingOff() not in heard_meanwhile(lambda: sysctl(f"{setting}=1"))
    one = setting.replace("ip_forward", "conf.up0.forwarding").replace("conf.all", "conf.up0")
    assert ForwardingOff() not in heard_meanwhile(lambda: sysctl(f"{one}=0"))  # nor of one interface
    assert heard_meanwhile(lambda: sysctl(f"{setting}=0")) == [ForwardingOff()]


def test_a_port_that_is_down_or_off_its_bridge_is_told(own_netns: Ip) -> None:
    own_netns("link add br0 type bridge")
    own_netns("link add up0 type veth peer name down0")
    own_netns("link set up0 up master br0")

    def told(change: str) -> bool | None:
        """What was said last of the port."""
        heard = heard_meanwhile(lambda: own_netns(change))
        found = [each.apart for each in heard if isinstance(each, LinkSeen) and each.name == "up0"]
        return next((apart for apart in reversed(found) if apart is not None), None)

    assert told("link set up0 down") is True
    assert told("link set up0 up") is False
    assert told("link set up0 nomaster") is True
    assert told("link set up0 master br0") is False
    assert told("addr add 192.0.2.1/24 dev up0") is None
    assert told("link del up0") is False


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


def test_only_transactions_on_our_table_are_told(own_netns: Ip) -> None:
    def others() -> None:
        nft("table inet other {\nchain c {\ntype filter hook input priority 0;\n}\n}\n")
        nft("table ip other {\nset s {\ntype ipv4_addr\nelements = { 192.0.2.1 }\n}\n}\n")
        nft("table arp l3net {\nchain c {\n}\n}\n")
        nft("table inet l3net_cni {\nchain c {\n}\n}\n")

    assert seen_meanwhile(0, others) == []
    for family in ("inet", "ip", "ip6"):  # those of packets that are handed on, too
        nft(f"table {family} l3net {{\nset s {{\ntype ipv4_addr\n}}\nchain c {{\n}}\n}}\n")
        for change in (
            "add element {} l3net s {{ 192.0.2.1 }}",
            "add rule {} l3net c accept",
            "flush chain {} l3net c",
            "add chain {} l3net d",
            "delete table {} l3net",
        ):
            text = change.format(family)
            assert seen_meanwhile(0, lambda text=text: nft(f"{text}\n")) == [TableSeen], text


def test_what_others_do_to_the_guard_of_ports_is_told(own_netns: Ip) -> None:
    """Not what goes by its own socket, nor what is of another table."""
    guard = NftGuard()
    nft("table bridge l3net {\nset macs {\ntype ifname . ether_addr\n}\nchain c {\n}\n}\n")
    own = Element("macs", b"l3v1".ljust(16, b"\0") + bytes(8))

    def told(act: Callable[[], object], port: int) -> list[type]:
        return seen_meanwhile(0, act, port)

    try:
        assert told(lambda: guard.change([own]), guard.port) == []
        assert told(lambda: guard.change([], [own]), guard.port + 1) == [GuardSeen]  # the control
        assert told(lambda: nft("add table bridge other\nadd table inet l3net\n"), guard.port) == [TableSeen]
        for change in (
            'add element bridge l3net macs { "l3v1" . 02:00:00:00:00:01 }',
            "add rule bridge l3net c accept",
            "flush ruleset",
        ):
            assert GuardSeen in told(lambda text=change: nft(f"{text}\n"), guard.port), change
    finally:
        guard.close()


def test_a_followed_table_is_doubtful_where_others_touched_it_alone(own_netns: Ip) -> None:
    """Changes of ours, of others on theirs, and of others on ours, in any order, heard of late or at once."""

    async def watch() -> None:
        table = NftTable(followed=True)
        watching = KernelMonitor(RTPROT_L3NET, 0, dict)
        watching.start(
            lambda notice: table.touched(notice.generation if isinstance(notice, TableSeen) else None)
        )
        try:
            table.apply(ruleset(FirewallPlan()))
            for heard in (False, True):
                table.amend("add element inet l3net vips4 { 192.0.2.1 }\n")
                nft("add table inet other\n")
                if heard:
                    await asyncio.sleep(0.1)
                assert table.intact()
                nft("delete table inet other\n")
                table.amend("delete element inet l3net vips4 { 192.0.2.1 }\n")
                await asyncio.sleep(0.1 * heard)
                assert table.intact()
            nft("add element inet l3net vips4 { 192.0.2.9 }\n")
            table.amend("add element inet l3net vips4 { 192.0.2.1 }\n")
            await asyncio.sleep(0.1)
            assert not table.intact(), "somebody else's, before ours"
            assert not table.intact(), "asked again"
            table.apply(ruleset(FirewallPlan()))
            await asyncio.sleep(0.1)
            assert table.intact()
            nft("flush ruleset\n")
            await asyncio.sleep(0.1)
            assert not table.intact()
            # Where notifications were lost, the table is looked at.
            table.apply(ruleset(FirewallPlan()))
            await asyncio.sleep(0.1)
            table.touched(None)
            assert table.intact()
            nft("delete table inet l3net\n")
            table.touched(None)
            assert not table.intact()
        finally:
            watching.stop()

    asyncio.run(watch())


@pytest.mark.parametrize("version", [4, 6])
def test_that_a_way_of_ours_is_gone_is_told(own_netns: Ip, version: int) -> None:
    """Whoever took it: a rule by protocol and priority, a route by protocol and table."""
    own_netns("link set lo up")
    ways = ("rule {} iif l3net0 fwmark 0x50000/0xffff0000 lookup 77 pref {} protocol {}",)
    for rule, told in (((10800, 108), [WayGone()]), ((10801, 108), []), ((10800, 99), [])):
        add, delete = (f"-{version} {ways[0].format(what, *rule)}" for what in ("add", "del"))
        assert heard_meanwhile(lambda add=add: own_netns(add)) == []  # type: ignore[misc]
        assert heard_meanwhile(lambda delete=delete: own_netns(delete)) == told  # type: ignore[misc]
    for table, told in ((0x6C330005, [WayGone()]), (77, [])):
        own_netns(f"-{version} route add default dev lo proto 108 table {table}")
        delete = f"-{version} route del default dev lo proto 108 table {table}"
        assert heard_meanwhile(lambda delete=delete: own_netns(delete)) == told  # type: ignore[misc]
