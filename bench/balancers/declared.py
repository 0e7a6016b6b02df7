"""Services of a cluster by number, as virtual servers; the first of them is the one that is called."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from policies.declared import BLOCKS as NODE_BLOCKS

from l3net.addresses import host_prefix
from l3net.firewall.facts import FirewallPlan
from l3net.model import Address, Backend, VirtualServer
from l3net.model.servers import NODE_PORTS

#: Where `policies.packets.Two` has its pods.
BLOCKS = tuple(map(ip_network, NODE_BLOCKS))
CLUSTER_IPS = {4: int(ip_address("10.96.0.0")), 6: int(ip_address("fd00:96::"))}
ELSEWHERE = {4: int(ip_address("10.245.0.0")), 6: int(ip_address("fd00:245::"))}
#: Of the one that is called: a byte there and back by TCP, and iperf3 by TCP and UDP.
SERVICE, ECHO, IPERF = 1, 80, 5201
NODE_PORT = 30000
PROTOCOLS = {ECHO: ("tcp",), IPERF: ("tcp", "udp")}


def pod(version: int, place: int = 0) -> Address:
    """A pod of the node; place 0 answers, 1 calls."""
    return BLOCKS[version == 6][place + 2]


def cluster_ip(version: int, number: int = SERVICE) -> Address:
    return ip_address(CLUSTER_IPS[version] + number)


def node_port(number: int, port: int) -> int:
    return NODE_PORT + (2 * number + (port == IPERF)) % 20000


def backends(version: int, number: int, count: int, port: int) -> tuple[Backend, ...]:
    """The one that is called has one endpoint, the pod that answers; others are elsewhere."""
    if number == SERVICE:
        return (Backend(pod(version), port),)
    first = ELSEWHERE[version] + (number * count) % 60000
    return tuple(Backend(ip_address(first + each), 8080) for each in range(count))


def services(version: int, count: int, endpoints: int) -> Iterator[tuple[int, int, str, tuple[Backend, ...]]]:
    """Number, port, protocol and endpoints of each."""
    for number in range(1, count + 1):
        for port, protocols in PROTOCOLS.items() if number == SERVICE else ((ECHO, ("tcp",)),):
            for protocol in protocols:
                yield number, port, protocol, backends(version, number, endpoints, port)


def plan(version: int, count: int, endpoints: int, node: Address, *, ports: bool = True) -> FirewallPlan:
    """ClusterIPs of so many services, and NodePorts if `ports`."""
    found = []
    for number, port, protocol, each in services(version, count, endpoints):
        found.append(VirtualServer(cluster_ip(version, number), protocol, port, each, each))
        if ports:
            answered = node_port(number, port)
            found.append(VirtualServer(NODE_PORTS[version], protocol, answered, each, each))
    return FirewallPlan(
        servers=frozenset(found),
        blocks=frozenset(BLOCKS),
        node_addresses=frozenset({node}),
        ports_on=frozenset({host_prefix(node)}),
    )
