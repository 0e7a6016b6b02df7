"""The routes that are not ours, and the next hops they lead to.

A BGP next hop is resolved on these alone (RFC 4271 section 5.1.3 calls the step recursive): never on a route
learned from a peer, or a peer could draw the sessions that carry its own announcements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_network

from l3net.addresses import address_order, contains, prefix_order
from l3net.model import Address, NextHop, Prefix


@dataclass(frozen=True, slots=True)
class HostLink:
    """A network interface: name, index, MTU in bytes, whether it is up, and the index of its master or 0."""

    name: str
    index: int
    mtu: int
    up: bool
    loopback: bool
    master: int = 0


@dataclass(frozen=True, slots=True)
class UnderlayHop:
    """One next hop of a route that is not ours; `gateway` None means on-link."""

    interface: str
    gateway: Address | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class UnderlayRoute:
    """A usable route of the main table. `discard` is a blackhole, unreachable or prohibit route."""

    prefix: Prefix
    hops: tuple[UnderlayHop, ...]
    metric: int = 0
    discard: bool = False
    source: Address | None = None  # RTA_PREFSRC: the address it leaves from


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of this node with its interface and prefix length, and what the kernel says of its use."""

    interface: str
    address: Address
    length: int
    deprecated: bool = False  # for what is there already alone (RFC 4862 section 5.5.4)
    tentative: bool = False  # nobody may use it yet, or another has it (RFC 4862 section 5.4)
    secondary: bool = False  # IPv4: behind the first of its subnet; IPv6: temporary (RFC 8981)

    def holds(self, address: Address) -> bool:
        """Whether an address is in this one's subnet."""
        return _same_subnet(self, address)


class Underlay:
    """Longest-prefix match over the routes that are not ours, and this node's addresses."""

    def __init__(self, routes: Iterable[UnderlayRoute], addresses: Iterable[InterfaceAddress]) -> None:
        self.addresses = tuple(addresses)
        self._best: dict[int, dict[Prefix, UnderlayRoute]] = {4: {}, 6: {}}
        for route in routes:
            table = self._best[route.prefix.version]
            seen = table.get(route.prefix)
            if seen is None or route.metric < seen.metric:
                table[route.prefix] = route
            elif route.metric == seen.metric and not (route.discard or seen.discard):
                # IPv6 may list the next hops of one route apart
                table[route.prefix] = replace(seen, hops=seen.hops + route.hops)
        self._ordered = {
            version: sorted(table.values(), key=lambda route: -route.prefix.prefixlen)
            for version, table in self._best.items()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Underlay) and (self._best, self.addresses) == (other._best, other.addresses)

    def __hash__(self) -> int:
        return hash(self.addresses)

    def route_to(self, address: Address) -> UnderlayRoute | None:
        """The longest match, None if there is none."""
        for route in self._ordered[address.version]:
            if address in route.prefix:
                return route
        return None

    def route_over(self, prefix: Prefix) -> UnderlayRoute | None:
        """The most specific route that leads to all of a prefix, None if there is none."""
        route = self.route_to(prefix.network_address)
        if route is None or route.prefix.prefixlen <= prefix.prefixlen:
            return route
        return next(
            (each for each in self._ordered[prefix.version] if contains(each.prefix, prefix)),
            None,
        )

    def resolve(self, next_hop: Address, interface: str | None = None) -> frozenset[NextHop]:
        """Gateways and interfaces that lead to a BGP next hop; empty when it is unreachable.

        `interface` is that of the session, which a link-local next hop needs.
        """
        if isinstance(next_hop, IPv6Address) and next_hop.is_link_local:
            on_link = self.route_to(next_hop)  # of every link that is up
            up = on_link is not None and any(hop.interface == interface for hop in on_link.hops)
            return frozenset({NextHop(next_hop, interface)}) if interface and up else frozenset()
        route = self.route_to(next_hop)
        if route is None or route.discard:
            return frozenset()
        return frozenset(
            NextHop(next_hop if hop.gateway is None else hop.gateway, hop.interface, hop.weight)
            for hop in route.hops
        )

    def links_of(self, address: Address) -> frozenset[str]:
        """The links that are up on which an address is, with no router between."""
        route = self.route_to(address)
        if route is None or route.discard:
            return frozenset()
        return frozenset(hop.interface for hop in route.hops if hop.gateway is None)

    def on_link(self, next_hop: Address, links: Collection[str]) -> frozenset[NextHop]:
        """`resolve` for a next hop that has to be on one of these links itself; empty when it is on none."""
        return frozenset(NextHop(next_hop, each) for each in self.links_of(next_hop) if each in links)

    def source(
        self, address: Address, preferred: Collection[Address] = (), held: Address | None = None
    ) -> tuple[Address, tuple[Address, ...]] | None:
        """Our address on the link towards `address`, and all our addresses on that link.

        None when there is no route. That which a session has (`held`) stays while it is there; then come the
        node's own (`preferred`), and then the kernel's choice: the route's preferred source, else the first
        whose subnet holds the gateway, and none that is secondary or deprecated while there is another
        (RFC 6724 section 5, rules 3, 7 and 8). So an address that comes and goes, such as a virtual one,
        moves no session.
        """
        route = self.route_to(address)
        if route is None or route.discard or not route.hops:
            return None
        hop = route.hops[0]
        towards = hop.gateway or address
        here = [entry for entry in self.addresses if entry.interface == hop.interface]
        usable = [
            entry
            for entry in here
            if entry.address.version == address.version
            and entry.address.is_link_local == address.is_link_local
            and (not entry.tentative or entry.address == held)
        ]
        best = sorted(
            usable,
            key=lambda entry: (
                entry.address != held,
                entry.address not in preferred,
                entry.address != route.source,
                entry.deprecated,
                not _same_subnet(entry, towards),
                entry.secondary,
                -_common(entry.address, towards) if address.version == 6 else 0,
            ),
        )
        if not best:
            return None
        siblings = (entry for entry in here if not entry.tentative)
        ordered = sorted(
            siblings,
            key=lambda entry: (entry.address not in preferred, entry.deprecated, entry.secondary),
        )
        return best[0].address, tuple(entry.address for entry in ordered)

    def interface_to(self, address: Address) -> str | None:
        """The link towards an address."""
        route = self.route_to(address)
        return route.hops[0].interface if route is not None and route.hops else None

    def link_local(self, interface: str) -> IPv6Address | None:
        """Our link-local address on a link, the lowest if there are several."""
        found = [
            entry.address
            for entry in self.addresses
            if entry.interface == interface and isinstance(entry.address, IPv6Address)
        ]
        return min((address for address in found if address.is_link_local), default=None)

    def adjacent(self, address: Address) -> bool:
        """Whether an address is on a link of ours, with no router between."""
        route = self.route_to(address)
        if route is None:
            return address.is_link_local
        return not route.discard and any(hop.gateway is None for hop in route.hops)

    def gateways(self) -> tuple[Address, ...]:
        """The gateways of the default routes of both families."""
        found: list[Address] = []
        for table in self._best.values():
            for route in table.values():
                if route.prefix.prefixlen == 0:
                    found += [hop.gateway for hop in route.hops if hop.gateway is not None]
        return tuple(sorted(set(found), key=address_order))

    def connected(self, except_interface: str) -> tuple[Prefix, ...]:
        """Subnets of this node's links, host addresses included."""
        return tuple(
            sorted(
                {
                    _network(entry)
                    for entry in self.addresses
                    if entry.interface not in (except_interface, "lo") and not entry.address.is_link_local
                },
                key=prefix_order,
            )
        )

    def own_addresses(self) -> frozenset[Address]:
        return frozenset(entry.address for entry in self.addresses)


def _network(entry: InterfaceAddress) -> Prefix:
    return ip_network((entry.address, entry.length), strict=False)


def _common(one: Address, other: Address) -> int:
    """How many leading bits two addresses of a family share."""
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()


def _same_subnet(entry: InterfaceAddress, address: Address) -> bool:
    return entry.address.version == address.version and address in _network(entry)
