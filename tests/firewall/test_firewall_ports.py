"""Ports of a source address that run out: what becomes of a new connection, what counts it, and who tells."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from firewall_net import BLOCKS, CLIENT, IMPATIENCE, NODE, POD, PODS, UPLINK, Net, inside

from l3net.doctor.findings import Severity
from l3net.doctor.node import judge_node
from l3net.firewall.facts import FirewallPlan
from l3net.model import PORTS_OF_ADDRESS, PortUse
from l3net.shell.kernel.connections import Conntrack
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute
from l3net.shell.kernel.snatports import used_ports
from l3net.shell.probes.node import look_at_node

pytestmark = pytest.mark.netns
TCP, UDP, SERVED = 6, 17, 8080
_NEW, _CREATE, _NESTED = 1 << 8, 0x400, 0x8000  # IPCTNL_MSG_CT_NEW, NLM_F_CREATE, NLA_F_NESTED
#: SEEN_REPLY, ASSURED, CONFIRMED; TCP_CONNTRACK_ESTABLISHED.
_STATUS, _ESTABLISHED = 0x2 | 0x4 | 0x8, 3
#: Connections that there may be.
_ROOM = Path("/proc/sys/net/netfilter/nf_conntrack_max")


def _nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _tuple(kind: int, version: int, source: tuple[str, int], to: tuple[str, int]) -> bytes:
    first = 1 if version == 4 else 3
    ips = (attribute(first + at, ip_address(each[0]).packed) for at, each in enumerate((source, to)))
    ports = (attribute(2 + at, struct.pack("!H", each[1])) for at, each in enumerate((source, to)))
    return _nested(kind, _nested(1, *ips), _nested(2, attribute(1, bytes((TCP,))), *ports))


def masqueraded(version: int) -> list[Request]:
    """Open connections of some pod to the client, which sees the node's address and each of its ports."""
    mark = 0xABCD
    made, mark_text = _masqueraded(version, mark).body, struct.pack("!H", mark)
    ports = (struct.pack("!H", port) for port in range(1024, 65536))
    return [Request(_NEW, _CREATE, made.replace(mark_text, port)) for port in ports]


def _masqueraded(version: int, port: int) -> Request:
    pod, to = (POD["pod3"][version], port), (CLIENT[version], SERVED)
    own, number = ip_address(NODE[version]).packed, struct.pack("!H", port)
    first = 1 if version == 4 else 4  # CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP
    nat = _nested(
        6,  # CTA_NAT_SRC
        *(attribute(first + at, own) for at in (0, 1)),
        _nested(3, attribute(1, number), attribute(2, number)),
    )
    state = _nested(4, _nested(1, attribute(1, bytes((_ESTABLISHED,)))))
    body = bytes((socket.AF_INET if version == 4 else socket.AF_INET6, 0, 0, 0))
    body += _tuple(1, version, pod, to) + _tuple(2, version, to, pod) + nat + state
    body += attribute(3, struct.pack("!I", _STATUS)) + attribute(7, struct.pack("!I", 600))
    return Request(_NEW, _CREATE, body)


@pytest.fixture
def masquerading(net: Net) -> Iterator[Net]:
    """Pods leave with the node's addresses, and the node knows of no connection."""
    pool = frozenset({ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")})
    net.apply(
        FirewallPlan(
            blocks=frozenset(map(ip_network, BLOCKS)),
            node_addresses=frozenset(map(ip_address, (*NODE.values(), *UPLINK.values()))),
            nat_sources=pool,
            inside=pool,
        )
    )
    net.forget()
    yield net
    net.forget()


@pytest.mark.parametrize("version", [4, 6])
def test_ports_are_counted_by_source_and_protocol(masquerading: Net, version: int) -> None:
    """Of each the destination that takes the most; what is not translated counts nowhere."""
    net = masquerading
    own, to = ip_address(NODE[version]), ip_address(CLIENT[version])
    with net.serving(version, SERVED, SERVED + 1, roles=("client",)):
        for port, pods in ((SERVED, PODS), (SERVED + 1, PODS[:1])):
            for pod in pods:
                net.ask(pod, version, CLIENT[version], port)
        net.ask_udp("pod1", version, CLIENT[version], SERVED)
        net.ask("node", version, CLIENT[version], SERVED)
    with inside(net.names["node"]):
        assert Conntrack().used_ports() == (
            PortUse(own, TCP, to, SERVED, len(PODS)),
            PortUse(own, UDP, to, SERVED, 1),
        )
        assert used_ports(least=100) == ()


@pytest.mark.parametrize("version", [4, pytest.param(6, marks=pytest.mark.soak)])
def test_ports_that_run_out_are_seen(masquerading: Net, version: int, tmp_path: Path) -> None:
    """With a free one a pod gets through, with none it does not: counted by the kernel, and told by the
    doctor with the address, the destination and what to do."""
    if int(_ROOM.read_text()) < PORTS_OF_ADDRESS + 4096:
        pytest.skip(f"{_ROOM} leaves no room for all ports of an address")
    net, kernel = masquerading, Conntrack()
    own, to = ip_address(NODE[version]), ip_address(CLIENT[version])

    def judged() -> list[str]:
        look = look_at_node(tmp_path, tmp_path, tmp_path, wants_pods=False)
        found = [each for each in judge_node(look, ecmp=False) if each.subject == f"ports of {own}"]
        assert all(each.severity is Severity.PROBLEM for each in found)
        assert all("l3net.io/snat-addresses" in each.remedy for each in found)
        return [each.what for each in found]

    with net.serving(version, SERVED, roles=("client",)):
        assert net.ask("pod1", version, CLIENT[version], SERVED)[2] == NODE[version]
        with inside(net.names["node"]):
            before = kernel.refused()
            assert judged() == []
            with Netlink(NETLINK_NETFILTER) as netlink:
                netlink.transact(masqueraded(version))
        with pytest.raises(TimeoutError):
            net.ask("pod1", version, CLIENT[version], SERVED, IMPATIENCE)
    with inside(net.names["node"]):
        after = kernel.refused()
        assert after["insert_failed"] > before["insert_failed"] and after["drop"] > before["drop"]
        (said,) = judged()
    assert said.startswith(f"{PORTS_OF_ADDRESS} of {PORTS_OF_ADDRESS} are taken by TCP connections to {to}")
