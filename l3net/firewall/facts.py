"""What the firewall of a node has to know, as a value."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from l3net.addresses import contains, host_prefix
from l3net.firewall.policycontents import NO_POLICY, PolicyContents
from l3net.model import (
    NO_EGRESS,
    Address,
    ClusterState,
    EgressPaths,
    Envelope,
    IpPool,
    Node,
    PoolUse,
    Prefix,
    VirtualServer,
    node_addresses,
)
from l3net.naming import BRIDGE, ENVELOPE_PORT

BGP_PORT = 179
#: BFD: single hop control and echo (RFC 5881), multihop (RFC 5883).
BFD_PORTS = (3784, 3785, 4784)


@dataclass(frozen=True, slots=True)
class FirewallPlan:
    """All that the rule set depends on; equal plans make equal rule sets.

    `blocks` are this node's, `node_addresses` every node's. Pods of `nat_sources` are masqueraded towards
    anything not `inside`, but for `nat_excepts`: sources and destinations of one family. `bgp_ports` are
    closed to pods. `error_port`: the UDP port by which nodes hand on ICMP errors about services, closed to
    pods, 0 where this one hands on none. `policy` changes in place.
    `closed_ports`, protocol and port, are closed to them too; `open_ports` the node answers to pods as well.
    `pod_ranges` hold the pods of all nodes, and no node or router. What some pods of this node may send from
    beside its blocks is in `allowed_sources`. NodePorts are on those of the node's own addresses that lie in
    `ports_on`.
    `routers`: whom nodes speak BGP with outside the cluster, by address and port; without an address anybody.
    `envelope`: the device by which packets go on to other nodes, None: none do.
    `floating`: floating addresses of this node's pods, each with the pod's own; `floating_sources`: a pod's
    own address with the one that it leaves the cluster with. `egress`: with which address, and by which node,
    other pods leave. `snat_addresses`: of the node's own addresses, those that pods of `nat_sources` leave
    with, in order; of a family without one the kernel chooses. `own_addresses`: one of this node's of each
    family, where there are EgressIPs.
    """

    servers: frozenset[VirtualServer] = frozenset()
    blocks: frozenset[Prefix] = frozenset()
    nat_sources: frozenset[Prefix] = frozenset()
    nat_excepts: frozenset[tuple[Prefix, Prefix]] = frozenset()
    inside: frozenset[Prefix] = frozenset()
    node_addresses: frozenset[Address] = frozenset()
    bridge: str = BRIDGE
    bgp_ports: frozenset[int] = field(default_factory=lambda: frozenset({BGP_PORT}))
    error_port: int = 0
    service_cidrs: frozenset[Prefix] = frozenset()
    ports_on: frozenset[Prefix] = frozenset()
    policy: PolicyContents = NO_POLICY
    closed_ports: frozenset[tuple[str, int]] = frozenset()
    open_ports: frozenset[tuple[str, int]] = frozenset()
    pod_ranges: frozenset[Prefix] = frozenset()
    allowed_sources: frozenset[Prefix] = frozenset()
    routers: frozenset[tuple[Address | None, int]] = frozenset()
    envelope: Envelope | None = None
    floating: frozenset[tuple[Address, Address]] = frozenset()
    floating_sources: frozenset[tuple[Address, Address]] = frozenset()
    egress: EgressPaths = NO_EGRESS
    own_addresses: tuple[Address, ...] = ()
    snat_addresses: tuple[Address, ...] = ()

    @property
    def own_ports(self) -> frozenset[tuple[str, int]]:
        """What the node itself answers, protocol and port: no NodePort is served there."""
        return self.shut_ports | self.open_ports

    @property
    def shut_ports(self) -> frozenset[tuple[str, int]]:
        """Those of them that are closed to pods."""
        return self.closed_ports | _of_routing(self.bgp_ports, self.error_port)

    def serving(self, servers: Iterable[VirtualServer]) -> FirewallPlan:
        """The same with these servers."""
        return replace(self, servers=frozenset(servers))


def own_ports(listen_port: int, error_port: int) -> frozenset[tuple[str, int]]:
    """What the node itself answers, protocol and port: closed to pods, and no pod may publish it."""
    return _of_routing({BGP_PORT, listen_port}, error_port)


def _of_routing(bgp_ports: Collection[int], error_port: int) -> frozenset[tuple[str, int]]:
    udp = {*BFD_PORTS, ENVELOPE_PORT, error_port} - {0}
    return frozenset({("tcp", port) for port in bgp_ports} | {("udp", port) for port in udp})


def plan(
    state: ClusterState,
    me: str,
    servers: Iterable[VirtualServer],
    *,
    bridge: str = BRIDGE,
    error_port: int = 0,
    policy: PolicyContents = NO_POLICY,
    closed_ports: frozenset[tuple[str, int]] = frozenset(),
    open_ports: frozenset[tuple[str, int]] = frozenset(),
    serving: bool = True,
    envelope: Envelope | None = None,
    floating: frozenset[tuple[Address, Address]] = frozenset(),
    floating_sources: frozenset[tuple[Address, Address]] = frozenset(),
    egress: EgressPaths = NO_EGRESS,
    snat_addresses: tuple[Address, ...] = (),
) -> FirewallPlan:
    """The plan for this node out of the declared state; the virtual servers come from the services, if l3net
    is `serving` them at all.

    Disabled pools hand nothing out any more, but their pods live on, and so they count.
    """
    node = state.nodes.get(me)
    pools = [pool for pool in state.pools.values() if PoolUse.PODS in pool.allowed_uses]
    addresses = node_addresses(state.nodes.values())
    inside: list[Prefix] = [pool.cidr for pool in state.pools.values()]
    inside += [block for other in state.nodes.values() for block in other.blocks]
    inside += [host_prefix(address) for address in addresses]
    inside += state.service_ranges
    return FirewallPlan(
        servers=frozenset(servers),
        blocks=frozenset(node.blocks) if node else frozenset(),
        nat_sources=collapsed(pool.cidr for pool in pools if pool.nat_outgoing),
        nat_excepts=frozenset(
            (pool.cidr, destination)
            for pool in pools
            if pool.nat_outgoing
            for destination in pool.nat_excepts
        ),
        inside=collapsed(inside),
        node_addresses=addresses,
        bridge=bridge,
        bgp_ports=frozenset({BGP_PORT, state.configuration.listen_port}),
        error_port=error_port,
        service_cidrs=frozenset(state.service_ranges) if serving else frozenset(),
        ports_on=_ports_on(state, node) if serving else frozenset(),
        policy=policy,
        closed_ports=closed_ports,
        open_ports=open_ports,
        pod_ranges=_pod_ranges(state, pools, addresses),
        allowed_sources=collapsed(_allowed(state)),
        routers=_routers(state),
        envelope=envelope,
        floating=floating,
        floating_sources=floating_sources,
        egress=egress,
        own_addresses=_primary(node.addresses) if node and egress.wanted else (),
        snat_addresses=snat_addresses,
    )


def _primary(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """The first of each family."""
    return tuple({each.version: each for each in reversed(addresses)}.values())


def _ports_on(state: ClusterState, node: Node | None) -> frozenset[Prefix]:
    """Where the node's addresses lie that NodePorts are on."""
    wanted = state.configuration.node_ports
    if wanted.cidrs:
        return collapsed(wanted.cidrs)
    own = node.addresses if node else ()
    if wanted.primary:
        own = _primary(own)
    return collapsed(map(host_prefix, own))


def texts_of(version: int, addresses: Iterable[Address]) -> frozenset[str]:
    """Those of a family as elements of a set."""
    return frozenset(str(each) for each in addresses if each.version == version)


def ports_matched(ports: Iterable[tuple[str, int]]) -> list[str]:
    """Protocols and ports as nft compares them."""
    found: dict[str, list[str]] = {"tcp": [], "udp": []}
    for protocol, port in sorted(ports):
        found[protocol].append(str(port))
    return [f"{protocol} dport {{ {', '.join(numbers)} }}" for protocol, numbers in found.items()]


def _pod_ranges(state: ClusterState, pools: Iterable[IpPool], nodes: Iterable[Address]) -> frozenset[Prefix]:
    """Whence the pods of any node speak: the pools and, where a node or a router is in one, its blocks."""
    others = [*nodes, *(peer.address for peer in state.peers.values() if peer.address is not None)]
    whole = [pool.cidr for pool in pools if not any(address in pool.cidr for address in others)]
    blocks = (block for node in state.nodes.values() for block in node.blocks)
    rest = [block for block in blocks if not any(contains(pool, block) for pool in whole)]
    return collapsed([*whole, *rest])


def _routers(state: ClusterState) -> frozenset[tuple[Address | None, int]]:
    """Of the peers that a packet can be forwarded to: no link-local ones, as those by an interface are. Which
    gateways are found by themselves is not asked for here."""
    return frozenset(
        (peer.address, peer.port)
        for peer in state.peers.values()
        if peer.default_gateway or (peer.address is not None and not peer.address.is_link_local)
    )


def _allowed(state: ClusterState) -> Iterable[Prefix]:
    """All that any pod may be allowed: the port's guard knows which."""
    for pool in state.pools.values():
        yield from pool.allowed_sources
    for namespace in state.namespaces.values():
        yield from namespace.allowed_sources


def collapsed(prefixes: Iterable[Prefix]) -> frozenset[Prefix]:
    """The same addresses in as few prefixes as hold them: nftables' sets of ranges bear no overlap."""
    found = set(prefixes)
    v4 = [prefix for prefix in found if prefix.version == 4]
    v6 = [prefix for prefix in found if prefix.version == 6]
    return frozenset(
        cast("Prefix", prefix)
        for family in (v4, v6)
        for prefix in ipaddress.collapse_addresses(family)  # type: ignore[type-var]
    )


def widest_first(version: int, prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The prefixes of a family, in as few as hold them."""
    mine = collapsed(prefix for prefix in prefixes if prefix.version == version)
    return sorted(mine, key=lambda prefix: (prefix.prefixlen, prefix))
