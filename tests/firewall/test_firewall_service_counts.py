"""Connections to services as the kernel counts them: real ones, from everywhere, in both families."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from firewall_net import BLOCKS, IMPATIENCE, NODE, POD, UPLINK, Net, inside

from l3net.errors import KernelError
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.servicecounts import SETS, TABLE
from l3net.model import Backend, ServerKey, VirtualServer
from l3net.model.servers import NODE_PORTS
from l3net.shell.kernel import servicecounts
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink
from l3net.shell.kernel.servicecounts import NftServiceCounts, _read

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
ON = frozenset(map(ip_network, (f"{NODE[4]}/32", f"{NODE[6]}/128")))


def web(version: int, *pods: str) -> VirtualServer:
    backends = tuple(Backend(ip_address(POD[pod][version]), 8080) for pod in pods)
    return VirtualServer(ip_address(VIP[version]), "tcp", 80, backends, backends)


def plan(*servers: VirtualServer) -> FirewallPlan:
    addresses = frozenset(map(ip_address, (*NODE.values(), *UPLINK.values())))
    return FirewallPlan(
        servers=frozenset(servers),
        blocks=frozenset(map(ip_network, BLOCKS)),
        node_addresses=addresses,
        ports_on=ON,
    )


def calls(net: Net, version: int, count: int, address: str, port: int = 80) -> None:
    """So many from each of a client, a pod and the node itself, each with an answer after the first."""
    for role in ("client", "pod1", "node"):
        for _ in range(count):
            net.ask(role, version, address, port)


@pytest.mark.parametrize("version", [4, 6])
def test_as_many_as_there_were_whatever_changes(net: Net, version: int) -> None:
    counts = NftServiceCounts()
    one, port = web(version, "pod2"), replace(web(version, "pod2"), address=NODE_PORTS[version], port=30080)
    other: ServerKey = (ip_address(VIP[version]), "udp", 53)
    keys = [one.key, port.key, other]

    def read(fresh: NftServiceCounts = counts) -> dict[ServerKey, int]:
        with inside(net.names["node"]):
            return fresh.read()

    def follow(fresh: NftServiceCounts = counts, *more: ServerKey) -> None:
        with inside(net.names["node"]):
            fresh.follow([*keys, *more], ON)

    follow()
    net.apply(plan(one, port))
    try:
        with net.serving(version):
            calls(net, version, 2, VIP[version])
            assert read() == {one.key: 6}, "first packets alone, once for each connection"
            net.apply(plan(web(version, "pod2", "pod3"), port))  # endpoints change, and the table is another
            calls(net, version, 1, VIP[version])
            assert read() == {one.key: 9}
            net.ask("client", version, NODE[version], 30080)
            with contextlib.suppress(OSError):  # nobody has that port of the node: no service is asked
                net.ask("client", version, UPLINK[version], 30080, IMPATIENCE)
            assert read() == {one.key: 9, port.key: 1}
        net.apply(plan())
        with contextlib.suppress(OSError):
            net.ask("client", version, VIP[version], 80, IMPATIENCE)
        assert read()[one.key] == 10, "also what nobody answers"
        later = NftServiceCounts()  # of an agent that comes later
        follow(later)
        assert read(later) == {one.key: 10, port.key: 1}
        net.nft(f"delete table inet {TABLE}")
        with pytest.raises(KernelError):
            read(later)
        follow(later)  # it is made anew
        assert read(later) == {}
    finally:
        net.apply(plan())
        with contextlib.suppress(Exception):
            net.nft(f"delete table inet {TABLE}")


def test_what_nobody_counts_is_not_read_again(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten milliseconds of the kernel for ten thousand services, four times a minute."""
    counts, reads = NftServiceCounts(), list[str]()

    def counted(netlink: Netlink, name: str) -> Iterator[tuple[bytes, int]]:
        reads.append(name)
        return _read(netlink, name)

    one, six = web(4, "pod2"), web(6, "pod2")
    with inside(net.names["node"]):
        counts.follow([one.key, six.key], ON)
    monkeypatch.setattr(servicecounts, "_read", counted)

    def read() -> tuple[dict[ServerKey, int], bool]:
        reads.clear()
        with inside(net.names["node"]):
            return counts.read(), bool(reads)

    net.apply(plan(one, six))
    try:
        assert read() == ({}, True), "nothing is known yet"
        assert read() == ({}, False)
        total = dict[ServerKey, int]()
        for each in (one, six, one):
            with net.serving(each.address.version):
                net.ask("client", each.address.version, str(each.address), 80)
            total[each.key] = total.get(each.key, 0) + 1
            assert read() == (total, True)
            assert read() == (total, False)
        with inside(net.names["node"]):
            counts.change((), [six.key])
        assert read() == ({one.key: 2}, True), "others are counted"
        net.nft(f"delete table inet {TABLE}")
        with pytest.raises(KernelError):
            read()
        with inside(net.names["node"]):
            counts.follow([one.key, six.key], ON)
        assert read() == ({}, True)
    finally:
        net.apply(plan())
        net.nft(f"delete table inet {TABLE}")


def test_thousands_are_put_read_and_taken_away(net: Net) -> None:
    counts = NftServiceCounts()
    keys = [(ip_address(f"10.97.{each >> 8}.{each & 255}"), "tcp", 80) for each in range(4000)]
    keys += [(ip_address(f"fd00:97::{each:x}"), "udp", 53) for each in range(4000)]
    with inside(net.names["node"]):
        counts.follow(keys, ON)
        assert counts.read() == {}
        counts.follow(keys[:10], ON)
        fresh = NftServiceCounts()
        fresh.follow(keys[:10], ON)
        with Netlink(NETLINK_NETFILTER) as netlink:
            there = [key for name in SETS.values() for key, _ in _read(netlink, name)]
        assert len(there) == 10
        fresh.change(keys[10:20], keys[5:10])
        fresh.change(keys[:5], keys[20:30])  # what is there, and what is not
        with Netlink(NETLINK_NETFILTER) as netlink:
            assert len([key for name in SETS.values() for key, _ in _read(netlink, name)]) == 15
        never = NftServiceCounts()
        never.change(keys[30:40], ())  # it is not known yet what is there
        with Netlink(NETLINK_NETFILTER) as netlink:
            assert len([key for name in SETS.values() for key, _ in _read(netlink, name)]) == 15
    net.nft(f"delete table inet {TABLE}")
