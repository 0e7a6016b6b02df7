"""Service translation: maps from an address and port to a backend, and no rule a service.

A map leads from (address, protocol, port) to the chain for that number of backends. The chain draws a slot
and finds the backend in one map of all slots. What differs between traffic from this node and from elsewhere
(a traffic policy that is Local) stands in maps of its own, so that most services stand in one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.model import Backend, VirtualServer
from l3net.naming import PROTOCOL_NUMBERS

#: Seed of the hash that binds a client to a backend: the same on every node, so that ECMP may move a client.
AFFINITY_SEED = "0x6c336e74"

#: Chains are made for at least this many backends.
SPARE_CHAINS = 16

_KEY = "meta l4proto . th dport"


class Side(enum.Enum):
    """Whose traffic a map is for; the value is the suffix of its name."""

    BOTH = ""
    INTERNAL = "-internal"
    EXTERNAL = "-external"


#: Chain: side, number of backends, client affinity.
LoadBalancer: TypeAlias = tuple[Side, int, bool]


@dataclass(slots=True)
class ServiceMaps:
    """The elements of one family's maps, in order."""

    version: int
    servers: dict[Side, list[str]] = field(default_factory=lambda: {side: [] for side in Side})
    slots: dict[Side, list[str]] = field(default_factory=lambda: {side: [] for side in Side})
    chains: set[LoadBalancer] = field(default_factory=set)

    @property
    def ip(self) -> str:
        return "ip" if self.version == 4 else "ip6"

    def add(self, server: VirtualServer) -> None:
        if server.internal == server.external:
            self._add(server, Side.BOTH, server.internal)
        else:
            self._add(server, Side.INTERNAL, server.internal)
            self._add(server, Side.EXTERNAL, server.external)

    def _add(self, server: VirtualServer, side: Side, backends: tuple[Backend, ...]) -> None:
        if not backends:
            return  # no map has it, and the packet meets the refusal of service addresses
        key = f"{server.address} . {PROTOCOL_NUMBERS[server.protocol]} . {server.port}"
        chain = (side, len(backends), server.client_ip_affinity)
        self.chains.add(chain)
        self.servers[side].append(f"{key} : goto {self.name_of(chain)}")
        self.slots[side].extend(
            f"{key} . {slot} : {backend.address} . {backend.port}" for slot, backend in enumerate(backends)
        )

    def name_of(self, chain: LoadBalancer) -> str:
        side, count, affinity = chain
        return f"lb{self.version}-{count}{'-sticky' if affinity else ''}{side.value}"

    def definitions(self) -> Iterator[str]:
        """The maps and the chains. Chains come before the maps that lead to them."""
        for side in Side:
            yield from named_map(
                f"backends{self.version}{side.value}",
                f"{self.ip} daddr . {_KEY} . numgen random mod 2 : {self.ip} daddr . th dport",
                self.slots[side],
            )
        for chain in sorted(with_spares(self.chains), key=self.name_of):
            yield from self.chain(chain)
        for side in Side:
            yield from named_map(
                f"services{self.version}{side.value}",
                f"{self.ip} daddr . {_KEY} : verdict",
                self.servers[side],
            )

    def chain(self, chain: LoadBalancer) -> Iterator[str]:
        """The chain that draws one of so many backends."""
        side, count, affinity = chain
        draw = (
            f"jhash {self.ip} saddr mod {count} seed {AFFINITY_SEED}"
            if affinity and count > 1
            else f"numgen random mod {count}"
        )
        yield f"chain {self.name_of(chain)} {{"
        yield f"dnat {self.ip} to {self.ip} daddr . {_KEY} . {draw} map @backends{self.version}{side.value}"
        yield "}"

    def lookup(self, side: Side) -> str:
        return f"{self.ip} daddr . {_KEY} vmap @services{self.version}{side.value}"


def with_spares(chains: Iterable[LoadBalancer]) -> set[LoadBalancer]:
    """These chains, and those for other numbers of backends that may be wanted next.

    nft 1.0.6 cannot add a chain that refers to a map in force, so that a number of backends without a chain
    has the table replaced.
    """
    most: dict[tuple[Side, bool], int] = {(Side.BOTH, False): 0}
    for side, count, affinity in chains:
        most[side, affinity] = max(count, most.get((side, affinity), 0))
    return {
        (side, count, affinity)
        for (side, affinity), longest in most.items()
        for count in range(1, max(SPARE_CHAINS, longest + longest // 4) + 1)
    }


def named_map(name: str, type_of: str, elements: Iterable[str]) -> Iterator[str]:
    yield f"map {name} {{"
    yield f"typeof {type_of}"
    yield from _elements(elements)
    yield "}"


def named_set(name: str, of: str, elements: Iterable[str], *, ranges: bool = False) -> Iterator[str]:
    """A set; `of` is `type ...` or `typeof ...`; with `ranges` its elements are prefixes."""
    yield f"set {name} {{"
    yield of
    if ranges:
        yield "flags interval"
    yield from _elements(elements)
    yield "}"


def _elements(elements: Iterable[str]) -> Iterator[str]:
    listed = ",\n".join(elements)
    if listed:
        yield f"elements = {{\n{listed}\n}}"


def service_maps(servers: Iterable[VirtualServer], version: int) -> ServiceMaps:
    """The maps of one family, in an order that depends on nothing but the servers."""
    maps = ServiceMaps(version)
    mine = (server for server in servers if server.address.version == version)
    for server in sorted(mine, key=lambda server: (server.address, server.protocol, server.port)):
        maps.add(server)
    return maps
