"""Where a simulated kernel sends a packet: to itself, or by the longest route of the least metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import Any, NamedTuple

from sim_node import SimKernel

from l3net.fib.underlay import InterfaceAddress, UnderlayRoute
from l3net.model import Address, Prefix, Route, RouteKind


class Hop(NamedTuple):
    """`gateway` None: the destination is on the link."""

    interface: str
    gateway: Address | None = None

    def __str__(self) -> str:
        return f"{self.interface} via {self.gateway}" if self.gateway else self.interface


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """`discards`: a blackhole. `local`: the address is the node's own."""

    prefix: str
    hops: tuple[Hop, ...] = ()
    discards: bool = False
    local: bool = False
    source: Address | None = None

    def __str__(self) -> str:
        if self.local:
            return "an address of the node"
        return f"{'blackhole ' if self.discards else ''}{self.prefix}"


_LOCAL = FoundRoute("local", (Hop("lo"),), local=True)
_FULL = {4: 32, 6: 128}
_LOOPBACK6 = 1
_Routes = dict[int, tuple[int, FoundRoute]]  # by network, with its metric
#: What the kernel has; version, length and network's bits; how it is read.
_Made = dict[int, tuple[Any, int, int, int, FoundRoute]]


class Fib:
    """All of a node's routes when it was made; what has not changed is taken from one `before`."""

    def __init__(self, kernel: SimKernel, before: Fib | None = None) -> None:
        self.addresses = _addresses(kernel)
        self.local: dict[int, set[int]] = {4: set(), 6: {_LOOPBACK6}}
        self._broadcast: set[int] = {0xFFFFFFFF, 0}
        self._by_length: dict[int, dict[int, _Routes]] = {4: {}, 6: {}}
        for each in self.addresses:
            self.local[each.address.version].add(int(each.address))
            if each.address.version == 4 and each.length < 31:
                network = ip_network(f"{each.address}/{each.length}", strict=False)
                self._broadcast |= {int(network.broadcast_address), int(network.network_address)}
        known = before._made if before is not None else {}
        self._made: _Made = {}  # by the identity of what the kernel has
        for prefix, metric, had, read in _routes(kernel):
            made = known.get(id(had))
            if made is None or made[0] is not had:
                shift = _FULL[prefix.version] - prefix.prefixlen
                network = int(prefix.network_address) >> shift
                made = had, prefix.version, prefix.prefixlen, network, read(had)
            self._made[id(had)] = made
            table = self._by_length[made[1]].setdefault(made[2], {})
            present = table.get(made[3])
            if present is None or metric < present[0]:
                table[made[3]] = metric, made[4]
        self._ordered = {
            version: [
                (_FULL[version] - length, tables) for length, tables in sorted(found.items(), reverse=True)
            ]
            for version, found in self._by_length.items()
        }

    def is_local(self, version: int, address: int) -> bool:
        return address in self.local[version] or (version == 4 and address >> 24 == 127)

    def type_of(self, version: int, address: int) -> str:
        """As `fib ... type` has it."""
        if self.is_local(version, address):
            return "local"
        if version == 4:
            if address >> 28 == 0xE:
                return "multicast"
            return "broadcast" if address in self._broadcast else "unicast"
        return "multicast" if address >> 120 == 0xFF else "unicast"

    def route_to(self, version: int, address: int) -> FoundRoute | None:
        if self.is_local(version, address):
            return _LOCAL
        for shift, table in self._ordered[version]:
            found = table.get(address >> shift)
            if found is not None:
                return found[1]
        return None

    def source_for(self, version: int, interface: str, towards: int, route: FoundRoute | None) -> int | None:
        """The address that a packet of the node leaves from, or that a masquerade gives it."""
        if route is not None and route.source is not None:
            return int(route.source)
        # Loopback addresses are for this host alone.
        usable = [
            each
            for each in self.addresses
            if each.address.version == version and not each.tentative and not each.address.is_loopback
        ]
        own = [each for each in usable if each.interface == interface and not each.secondary]
        if version == 4:
            shared = [each for each in own if int(each.address) ^ towards < 1 << (32 - each.length)]
            best = next(iter(shared or own or usable), None)
            return None if best is None else int(best.address)
        wanted = [each for each in own or usable if not each.address.is_link_local] or own or usable
        wanted.sort(key=lambda each: (each.deprecated, (int(each.address) ^ towards).bit_length()))
        return int(wanted[0].address) if wanted else None


def _addresses(kernel: SimKernel) -> list[InterfaceAddress]:
    found = list(kernel.addresses)
    if kernel.bridge is not None:
        gateways = sorted(kernel.bridge.gateways, key=lambda each: (each[0].version, each[0]))
        found += (InterfaceAddress(kernel.bridge.name, address, length) for address, length in gateways)
    return found


def _routes(kernel: SimKernel) -> Iterator[tuple[Prefix, int, Any, Callable[[Any], FoundRoute]]]:
    """Prefix and metric, what the kernel has there, and how that is read."""
    if kernel.bridge is not None:
        for gateway in kernel.bridge.gateways:
            network = ip_interface(f"{gateway[0]}/{gateway[1]}").network
            name = kernel.bridge.name
            yield network, 0, gateway, lambda _, to=network, by=name: FoundRoute(str(to), (Hop(by),))
    for (prefix, metric), other in kernel.others.items():
        yield prefix, metric, other, _other
    for (prefix, metric), ours in kernel.ours.items():
        yield prefix, metric, ours, _ours


def _other(route: UnderlayRoute) -> FoundRoute:
    hops = _sorted(Hop(each.interface, each.gateway) for each in route.hops)
    return FoundRoute(str(route.prefix), hops, route.discard, source=route.source)


def _ours(route: Route) -> FoundRoute:
    hops = _sorted(Hop(each.interface, each.gateway) for each in route.next_hops)
    return FoundRoute(str(route.prefix), hops, route.kind is RouteKind.BLACKHOLE, source=route.source)


def _sorted(hops: Iterable[Hop]) -> tuple[Hop, ...]:
    return tuple(sorted(hops, key=lambda hop: (hop.interface, str(hop.gateway or ""))))


def address(version: int, number: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)
