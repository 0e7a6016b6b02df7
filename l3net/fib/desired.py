"""The kernel objects this node shall have: blackholes, learned routes, the pod bridge."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from l3net.fib.aggregates import aggregates, service_routes
from l3net.fib.underlay import Underlay
from l3net.model import Address, BridgePlan, NextHop, Prefix, Route, RouteKind, routes_alike
from l3net.naming import BRIDGE, METRIC_BGP, METRIC_BLACKHOLE

RouteKey = tuple[Prefix, int]


def blackhole(prefix: Prefix) -> Route:
    """Backs a block: a packet for an unassigned address ends here and never loops back to the peer."""
    return Route(prefix, kind=RouteKind.BLACKHOLE, metric=METRIC_BLACKHOLE)


def blackholes(blocks: Iterable[Prefix]) -> dict[RouteKey, Route]:
    return {(block, METRIC_BLACKHOLE): blackhole(block) for block in blocks}


def standing(
    networks: Collection[Prefix],
    ranges: Collection[Prefix],
    blocks: Collection[Prefix],
    underlay: Underlay,
    served: Iterable[Address],
) -> dict[RouteKey, Route]:
    """All that does not come from a peer. `networks` are announced beside the blocks, `ranges` are those of
    services, and `served` the addresses that are translated to endpoints."""
    return (
        blackholes(blocks) | aggregates(networks) | service_routes(ranges, blocks, underlay, networks, served)
    )


def learned(prefixes: Iterable[Prefix], hops: frozenset[NextHop]) -> Iterator[Route]:
    """Routes out of the Loc-RIB, of prefixes that are led alike."""
    return routes_alike(prefixes, hops, metric=METRIC_BGP)


def discarded(prefixes: Iterable[Prefix]) -> Iterator[Route]:
    """Destinations that a trusted peer asked to drop packets to (RFC 7999)."""
    return routes_alike(prefixes, kind=RouteKind.BLACKHOLE, metric=METRIC_BGP)


def gateway(block: Prefix) -> Address:
    """The block's first address: the bridge's own, never a pod's."""
    first = int(block.network_address) + 1
    return IPv4Address(first) if isinstance(block, IPv4Network) else IPv6Address(first)


def bridge_mac(node: str) -> str:
    """A locally administered MAC that stays the same when ports come and go (IEEE 802 section 8.2)."""
    digest = hashlib.sha256(f"l3net bridge {node}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def bridge(node: str, blocks: Iterable[Prefix], mtu: int) -> BridgePlan:
    """The pod bridge with the gateway of every block."""
    return BridgePlan(
        name=BRIDGE,
        mac=bridge_mac(node),
        mtu=mtu,
        gateways=frozenset((gateway(block), block.prefixlen) for block in blocks),
    )
