"""What backs the aggregates that this node announces, and what has to stand above that.

Who announces an aggregate draws packets for all of it. Those for an address that no more specific route leads
to would follow a default route back to the peer that sent them, and come again, until their hop limit is used
up. So behind each aggregate stands a blackhole (RFC 4632 section 5.1, rule 2). What this host's own processes
send to a service is routed before it is translated, and must not end there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from l3net.addresses import contains, host_prefix
from l3net.fib.underlay import Underlay, UnderlayRoute
from l3net.model import Address, NextHop, Prefix, Route, RouteKind
from l3net.naming import BRIDGE, METRIC_AGGREGATE, METRIC_BGP, METRIC_SERVICES

RouteKey = tuple[Prefix, int]


def aggregates(networks: Iterable[Prefix]) -> dict[RouteKey, Route]:
    """The blackholes behind all that is announced beside blocks and single addresses."""
    return {
        (network, METRIC_AGGREGATE): Route(network, kind=RouteKind.BLACKHOLE, metric=METRIC_AGGREGATE)
        for network in networks
    }


def service_routes(
    ranges: Collection[Prefix],
    blocks: Collection[Prefix],
    underlay: Underlay,
    networks: Collection[Prefix] = (),
    addresses: Iterable[Address] = (),
) -> dict[RouteKey, Route]:
    """Routes for what this host's own processes send to services, where nothing else would take it.

    That is translated after it has been routed, and where there is no route it is refused before. `ranges`
    are the service ranges, `addresses` those that services have, `networks` the announced aggregates. A route
    is needed where the host has no way to a range, not even a default route, and where the blackhole of an
    aggregate stands before that way. It leads to the bridge, which what is not translated does not leave by;
    packets have the source address that they would have without it. A node without a block of a family has
    no address on its bridge: there each service address gets a route of its own, to where it would go
    otherwise.
    """
    families = {block.version for block in blocks}
    found: dict[RouteKey, Route] = {}
    for each in ranges:
        if each.version in families and underlay.route_to(each.network_address) is None:
            _put(found, Route(each, frozenset({NextHop(None, BRIDGE)}), metric=METRIC_SERVICES))
    parts = [part for part in _parts(ranges, networks) if part.version in families]
    sources: dict[Prefix, Address | None] = {}
    for part in parts:
        if _swallowed(part, networks, underlay):
            _put(found, _to_bridge(part, underlay, sources))
    for address in addresses if networks else ():
        host = host_prefix(address)
        if not _inside(host, networks) or _inside(host, parts) or not _swallowed(host, networks, underlay):
            continue
        if host.version in families:
            _put(found, _to_bridge(host, underlay, sources))
        elif (way := underlay.route_over(host)) is not None and not way.discard:
            hops = frozenset(NextHop(hop.gateway, hop.interface, hop.weight) for hop in way.hops)
            source = _source(host, way, underlay, sources)
            _put(found, Route(host, hops, metric=METRIC_SERVICES, source=source))
    return found


def without_a_way(
    blocks: Iterable[Prefix], networks: Collection[Prefix], learned: Collection[RouteKey], underlay: Underlay
) -> list[Prefix]:
    """Other nodes' blocks for which this node drops packets: inside an aggregate, with no route to them that
    is more specific, neither learned (by prefix and METRIC_BGP) nor the host's own."""
    return [
        block
        for block in blocks
        if (longest := _longest(block, networks)) >= 0
        and not any(
            (block.supernet(new_prefix=length), METRIC_BGP) in learned
            for length in range(block.prefixlen, longest - 1, -1)
        )
        and _swallowed(block, networks, underlay)
    ]


def _put(found: dict[RouteKey, Route], route: Route) -> None:
    found.setdefault((route.prefix, route.metric), route)


def _to_bridge(prefix: Prefix, underlay: Underlay, sources: dict[Prefix, Address | None]) -> Route:
    source = _source(prefix, underlay.route_over(prefix), underlay, sources)
    return Route(prefix, frozenset({NextHop(None, BRIDGE)}), metric=METRIC_SERVICES, source=source)


def _source(
    prefix: Prefix, way: UnderlayRoute | None, underlay: Underlay, known: dict[Prefix, Address | None]
) -> Address | None:
    """The address that packets of this host to a prefix leave from by `way`; `known`: by other ways."""
    if way is None:
        return None
    if way.prefix not in known:
        chosen = underlay.source(prefix.network_address)
        known[way.prefix] = way.source or (chosen[0] if chosen is not None else None)
    return known[way.prefix]


def _parts(ranges: Iterable[Prefix], networks: Collection[Prefix]) -> Iterator[Prefix]:
    """Where the service ranges and the aggregates have addresses in common."""
    for each in ranges:
        for network in networks:
            if _inside(each, (network,)):
                yield each
            elif _inside(network, (each,)):
                yield network


def _inside(prefix: Prefix, outer: Iterable[Prefix]) -> bool:
    return _longest(prefix, outer) >= 0


def _longest(prefix: Prefix, outer: Iterable[Prefix]) -> int:
    """The length of the most specific of some prefixes that holds another; -1 if none does."""
    return max((each.prefixlen for each in outer if contains(each, prefix)), default=-1)


def _swallowed(prefix: Prefix, networks: Iterable[Prefix], underlay: Underlay) -> bool:
    """Whether the blackhole of an aggregate stands before the host's own way to a prefix."""
    longest = _longest(prefix, networks)
    way = underlay.route_over(prefix)
    if longest < 0 or way is None:
        return longest >= 0
    return (way.prefix.prefixlen, -way.metric) < (longest, -METRIC_AGGREGATE)
