"""Service translation: maps from an address and port to a backend, and no rule a service.

A map leads from (address, protocol, port) to the chain for that number of backends. The chain draws a slot
and finds the backend in one map of all slots. What differs between traffic from this node and from elsewhere
(a traffic policy that is Local) stands in maps of its own, so that most services stand in one.

Services whose clients come back have chains of their own (`sticky`). Whom a service is for stands in a chain
for each list of prefixes, which many services may share.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.firewall import sticky
from l3net.firewall.sticky import SEED, ServerKey, Sticky, remembered_of
from l3net.model import Backend, Prefix, VirtualServer
from l3net.naming import PROTOCOL_NUMBERS

#: Chains are made for at least this many backends.
SPARE_CHAINS = 16

_KEY = "meta l4proto . th dport"


class Side(enum.Enum):
    """Whose traffic a map is for; the value is the suffix of its name."""

    BOTH = ""
    INTERNAL = "-internal"
    EXTERNAL = "-external"


#: Chain: side, number of backends, whether a client's address draws.
LoadBalancer: TypeAlias = tuple[Side, int, bool]


@dataclass(slots=True)
class ServiceMaps:
    """The elements of one family's maps, in order."""

    version: int
    remembered: Collection[ServerKey] = frozenset()  # those whose clients are, see `sticky`
    servers: dict[Side, list[str]] = field(default_factory=lambda: {side: [] for side in Side})
    slots: dict[Side, list[str]] = field(default_factory=lambda: {side: [] for side in Side})
    chains: set[LoadBalancer] = field(default_factory=set)
    sticky: Sticky = field(default_factory=Sticky)
    guarded: list[str] = field(default_factory=list)
    guards: dict[str, tuple[Prefix, ...]] = field(default_factory=dict)

    @property
    def ip(self) -> str:
        return "ip" if self.version == 4 else "ip6"

    def add(self, server: VirtualServer) -> None:
        for side, backends in sides_of(server):
            self._add(server, side, backends)
        if server.sources is not None:
            guard = self.guard_of(server.sources)
            self.guards[guard] = server.sources
            self.guarded.append(f"{key_of(server)} : goto {guard}")

    def _add(self, server: VirtualServer, side: Side, backends: tuple[Backend, ...]) -> None:
        key = key_of(server)
        if server.affinity and sticky.key_of(server) in self.remembered:
            self.servers[side].append(f"{key} : goto {self.sticky.add(server, side.value, backends)}")
            return
        chain = chain_of(server, side, backends)
        self.chains.add(chain)
        self.servers[side].append(f"{key} : goto {self.name_of(chain)}")
        self.slots[side].extend(
            f"{key} . {slot} : {backend.address} . {backend.port}" for slot, backend in enumerate(backends)
        )

    def name_of(self, chain: LoadBalancer) -> str:
        side, count, by_address = chain
        return f"lb{self.version}-{count}{'-sticky' if by_address else ''}{side.value}"

    def guard_of(self, sources: tuple[Prefix, ...]) -> str:
        """The chain that lets these sources through."""
        digest = hashlib.sha256(" ".join(map(str, sources)).encode()).hexdigest()
        return f"sources{self.version}-{digest[:16]}"

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
        yield from self.sticky.blocks()
        for side in Side:
            yield from named_map(
                f"services{self.version}{side.value}",
                f"{self.ip} daddr . {_KEY} : verdict",
                self.servers[side],
            )

        yield from self._guards()

    def chain(self, chain: LoadBalancer) -> Iterator[str]:
        """The chain that draws one of so many backends."""
        side, count, by_address = chain
        hashed = f"jhash {self.ip} saddr mod {count} seed {SEED}"
        draw = hashed if by_address and count > 1 else f"numgen random mod {count}"
        yield f"chain {self.name_of(chain)} {{"
        yield f"dnat {self.ip} to {self.ip} daddr . {_KEY} . {draw} map @backends{self.version}{side.value}"
        yield "}"

    def _guards(self) -> Iterator[str]:
        """Whom services are for, compared in rules: a set of ranges may be empty for a moment (see
        ruleset)."""
        for name, sources in sorted(self.guards.items()):
            yield f"chain {name} {{"
            yield from (f"{self.ip} saddr {source} return" for source in sources)
            yield "drop"
            yield "}"
        yield from named_map(f"guarded{self.version}", f"{self.ip} daddr . {_KEY} : verdict", self.guarded)

    def restrictions(self) -> Iterator[str]:
        """The rule that drops new connections of those whom a service is not for."""
        if self.guarded:
            yield f"ct state new {self.ip} daddr . {_KEY} vmap @guarded{self.version}"

    def lookup(self, side: Side) -> str:
        return f"{self.ip} daddr . {_KEY} vmap @services{self.version}{side.value}"


def with_spares(chains: Iterable[LoadBalancer]) -> set[LoadBalancer]:
    """These chains, and those for other numbers of backends that may be wanted next.

    nft 1.0.6 cannot add a chain that refers to a map in force, so that a number of backends without a chain
    has the table replaced.
    """
    most = {(Side.BOTH, False): 0}
    for side, count, by_address in chains:
        most[side, by_address] = max(count, most.get((side, by_address), 0))
    return {
        (side, count, by_address)
        for (side, by_address), longest in most.items()
        for count in range(1, max(SPARE_CHAINS, longest + longest // 4) + 1)
    }


def chains_of(server: VirtualServer) -> Iterator[LoadBalancer]:
    """The chains that a server leads to whose clients are not remembered."""
    return (chain_of(server, side, backends) for side, backends in sides_of(server))


def chain_of(server: VirtualServer, side: Side, backends: tuple[Backend, ...]) -> LoadBalancer:
    """The chain that draws one of these backends."""
    return (side, len(backends), server.affinity > 0)


def sides_of(server: VirtualServer) -> list[tuple[Side, tuple[Backend, ...]]]:
    """The sides that a server has backends for: a side without is in no map, and meets the refusal."""
    if server.internal == server.external:
        sides = [(Side.BOTH, server.internal)]
    else:
        sides = [(Side.INTERNAL, server.internal), (Side.EXTERNAL, server.external)]
    return [(side, backends) for side, backends in sides if backends]


def key_of(server: VirtualServer) -> str:
    """What a server answers to, as maps have it."""
    return f"{server.address} . {PROTOCOL_NUMBERS[server.protocol]} . {server.port}"


def ends_of(server: VirtualServer) -> set[str]:
    """Where a server's answers come from, as the set of them has it. Of TCP alone: nothing else has a
    window."""
    if server.protocol != "tcp":
        return set()
    number = PROTOCOL_NUMBERS["tcp"]
    return {f"{each.address} . {number} . {each.port}" for each in (*server.internal, *server.external)}


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
    servers = tuple(servers)
    maps = ServiceMaps(version, remembered_of(servers))
    mine = (server for server in servers if server.address.version == version)
    for server in sorted(mine, key=lambda server: (server.address, server.protocol, server.port)):
        maps.add(server)
    return maps
