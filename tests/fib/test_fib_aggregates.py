"""What stands above the blackhole behind an announced aggregate, and what does not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from l3net.fib.aggregates import aggregates, service_routes, without_a_way
from l3net.fib.desired import blackholes
from l3net.fib.underlay import InterfaceAddress, Underlay, UnderlayHop, UnderlayRoute
from l3net.model import NextHop, Prefix, Route, RouteKind
from l3net.naming import BRIDGE, METRIC_AGGREGATE, METRIC_BGP, METRIC_BLACKHOLE, METRIC_SERVICES

EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
RANGE = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
PART = {4: "10.96.4.0/22", 6: "fd00:10:96::400/120"}
WIDER = {4: "10.0.0.0/8", 6: "fd00::/16"}
VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}
OUTER = {4: "192.0.2.0/24", 6: "2001:db8::/64"}
GATEWAY = {4: "10.90.0.2", 6: "fe80::2"}
OWN = {4: "10.90.0.1", 6: "fd90::1"}
BLOCK = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/120"}

both = pytest.mark.parametrize("version", [4, 6])


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, texts))


def underlay(version: int, *more: UnderlayRoute, default: int | None = 0) -> Underlay:
    """One link; a default route of some metric, or none."""
    link = {4: "10.90.0.0/24", 6: "fd90::/64"}[version]
    routes = [UnderlayRoute(ip_network(link), (UnderlayHop("up0"),)), *more]
    if default is not None:
        hop = UnderlayHop("up0", ip_address(GATEWAY[version]))
        routes.append(UnderlayRoute(ip_network(EVERYTHING[version]), (hop,), default))
    return Underlay(routes, [InterfaceAddress("up0", ip_address(OWN[version]), 24 if version == 4 else 64)])


def found(version: int, networks: str, under: Underlay, *addresses: str, blocks: bool = True) -> set[Route]:
    return set(
        service_routes(
            prefixes(RANGE[version]),
            prefixes(BLOCK[version]) if blocks else (),
            under,
            prefixes(*networks.split()),
            map(ip_address, addresses),
        ).values()
    )


def bridged(prefix: str, source: str | None) -> Route:
    hops = frozenset({NextHop(None, BRIDGE)})
    address = ip_address(source) if source else None
    return Route(ip_network(prefix), hops, metric=METRIC_SERVICES, source=address)


def test_the_blackhole_of_an_aggregate_is_none_of_a_block() -> None:
    """Which blocks a node has had is read from the kernel, by their metric."""
    (prefix,) = prefixes(BLOCK[4])
    found = {**blackholes([prefix]), **aggregates([prefix])}
    assert found.keys() == {(prefix, METRIC_BLACKHOLE), (prefix, METRIC_AGGREGATE)}
    assert {route.kind for route in found.values()} == {RouteKind.BLACKHOLE}


@both
def test_what_is_in_common_leads_to_the_bridge(version: int) -> None:
    under, own = underlay(version), OWN[version]
    assert found(version, "", under) == set(), "the control: the default route leads there"
    assert found(version, RANGE[version], under) == {bridged(RANGE[version], own)}
    assert found(version, PART[version], under) == {bridged(PART[version], own)}
    assert found(version, WIDER[version], under) == {bridged(RANGE[version], own)}
    assert found(version, OUTER[version], under) == set()
    assert found(version, f"{WIDER[version]} {PART[version]}", under) == {
        bridged(RANGE[version], own),
        bridged(PART[version], own),
    }


@both
def test_without_any_way_there_is_no_address_to_keep(version: int) -> None:
    under = underlay(version, default=None)
    for networks in ("", RANGE[version], WIDER[version]):
        assert found(version, networks, under) == {bridged(RANGE[version], None)}


@both
def test_a_route_of_the_hosts_own_stands_before_the_blackhole(version: int) -> None:
    hop = UnderlayHop("up0", ip_address(GATEWAY[version]))
    for metric, needed in ((0, False), (METRIC_AGGREGATE - 1, False), (METRIC_AGGREGATE + 1, True)):
        theirs = UnderlayRoute(ip_network(RANGE[version]), (hop,), metric)
        assert bool(found(version, RANGE[version], underlay(version, theirs))) is needed
    # One that leads to a part alone is none.
    theirs = UnderlayRoute(ip_network(PART[version]).supernet(), (hop,))
    assert found(version, RANGE[version], underlay(version, theirs))
    assert found(version, EVERYTHING[version], underlay(version)) == set(), (
        "nor is it in the way of a default"
    )


@both
def test_an_address_outside_the_ranges_has_a_route_of_its_own(version: int) -> None:
    under, host = underlay(version), f"{OUTSIDE[version]}/{32 if version == 4 else 128}"
    assert found(version, OUTER[version], under, OUTSIDE[version]) == {bridged(host, OWN[version])}
    assert found(version, WIDER[version], under, OUTSIDE[version], VIP[version]) == {
        bridged(RANGE[version], OWN[version])
    }


@both
def test_without_a_block_each_address_goes_where_it_would_go(version: int) -> None:
    """The bridge has no address. An agent may have to reach its API server by a service's address."""
    under, host = underlay(version), f"{VIP[version]}/{32 if version == 4 else 128}"
    hops = frozenset({NextHop(ip_address(GATEWAY[version]), "up0")})
    mirrored = Route(ip_network(host), hops, metric=METRIC_SERVICES, source=ip_address(OWN[version]))
    assert found(version, RANGE[version], under, VIP[version], OUTSIDE[version], blocks=False) == {mirrored}
    assert (
        found(version, RANGE[version], underlay(version, default=None), VIP[version], blocks=False) == set()
    )


@both
def test_blocks_without_a_way(version: int) -> None:
    (block,), (wide,) = prefixes(BLOCK[version]), prefixes(WIDER[version])
    under = underlay(version)
    assert without_a_way([block], [wide], (), under) == [block]
    assert without_a_way([block], [], (), under) == []
    between = block.supernet(new_prefix=wide.prefixlen + 2)
    for learned, cut_off in ((block, False), (between, False), (wide.supernet(), True)):
        assert bool(without_a_way([block], [wide], {(learned, METRIC_BGP)}, under)) is cut_off
    theirs = UnderlayRoute(between, (UnderlayHop("up0", ip_address(GATEWAY[version])),))
    assert without_a_way([block], [wide], (), underlay(version, theirs)) == []
