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
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.firewall.contents import IP, Element, Rules, chain_blocks, map_block
from l3net.firewall.sticky import SEED, Sticky
from l3net.model import Backend, Prefix, ServerKey, VirtualServer
from l3net.naming import PROTOCOL_NUMBERS

#: Chains are made for at least this many backends.
SPARE_CHAINS = 16

#: So many source ranges of one length are compared one by one.
COMPARED = 8

#: The rest of what a server answers to, after its address.
KEY = "meta l4proto . th dport"
#: Those that have ports, by their names in rules.
PORT_PROTOCOLS = ("tcp", "udp", "sctp")
#: The end of what has no backend.
REFUSED = (
    f"meta l4proto {PROTOCOL_NUMBERS['tcp']} reject with tcp reset",
    "reject with icmpx port-unreachable",
)


class Side(enum.Enum):
    """Whose traffic a map is for; the value is the suffix of its name."""

    BOTH = ""
    INTERNAL = "-internal"
    EXTERNAL = "-external"
    NODE = "-node"  # of NodePorts, which look at no address
    NODE_INTERNAL = "-node-internal"
    NODE_EXTERNAL = "-node-external"

    @property
    def on_node(self) -> bool:
        return self.value.startswith("-node")


#: The sides of servers that answer alike to all, to this node's own traffic and to others', by whether they
#: are NodePorts.
_SIDES = {
    False: (Side.BOTH, Side.INTERNAL, Side.EXTERNAL),
    True: (Side.NODE, Side.NODE_INTERNAL, Side.NODE_EXTERNAL),
}
#: Chain: side, number of backends, whether a client's address draws.
LoadBalancer: TypeAlias = tuple[Side, int, bool]


@dataclass(slots=True)
class ServiceMaps:
    """The elements of one family's maps, in order."""

    version: int
    remembered: Collection[ServerKey] = frozenset()  # those whose clients are, see `sticky`
    maps: dict[str, list[str]] = field(default_factory=dict)  # elements, by the map's name
    chains: set[LoadBalancer] = field(default_factory=set)
    sticky: Sticky = field(default_factory=Sticky)
    guards: dict[str, tuple[Prefix, ...]] = field(default_factory=dict)

    def add(self, server: VirtualServer) -> None:
        key, version = key_of(server), self.version
        for side, backends in sides_of(server):
            if not backends:
                to = refusal(version)
            elif server.affinity and server.key in self.remembered:
                to = self.sticky.add(server, side.value, backends)
            else:
                chain = chain_of(server, side, backends)
                self.chains.add(chain)
                to = chain_name(version, chain)
                self._elements(f"backends{version}{side.value}").extend(_slots(key, backends))
            self._elements(f"services{version}{side.value}").append(f"{key} : goto {to}")
        if server.sources is not None:
            guard = guard_of(version, server.sources)
            self.guards[guard] = server.sources
            self._elements(f"guarded{version}").append(f"{key} : goto {guard}")

    def _elements(self, name: str) -> list[str]:
        return self.maps.setdefault(name, [])

    def guarding(self) -> Counter[str]:
        """How many of the servers each guard is for."""
        guarded = self.maps.get(f"guarded{self.version}", ())
        return Counter(verdict.rpartition(" ")[2] for verdict in guarded)

    def elements(self) -> Iterator[Element]:
        """All of them, each with the map it stands in."""
        return ((name, element) for name, found in self.maps.items() for element in found)

    def definitions(self) -> Iterator[str]:
        """The maps and the chains that they lead to."""
        for side in Side:
            name, of = backends_map(self.version, side)
            yield from map_block(name, of, self.maps.get(name, ()))
        yield from chain_blocks(drawing(self.version, with_spares(self.chains)))
        yield from self.sticky.blocks()
        yield from chain_blocks({refusal(self.version): REFUSED})
        for side in Side:
            name = f"services{self.version}{side.value}"
            verdict = f"{answering(self.version, side)} : verdict"
            yield from map_block(name, verdict, self.maps.get(name, ()))
        verdict = f"{answering(self.version, Side.BOTH)} : verdict"
        yield from chain_blocks(guarding(self.version, self.guards))
        name = f"guarded{self.version}"
        yield from map_block(name, verdict, self.maps.get(name, ()))


def backends_map(version: int, side: Side) -> tuple[str, str]:
    """The name of a map of slots, and the type of its elements."""
    slot = f"{answering(version, side)} . numgen random mod 2"
    return f"backends{version}{side.value}", f"{slot} : {IP[version]} daddr . th dport"


def answering(version: int, side: Side) -> str:
    """What of a packet is looked up in the maps of a side."""
    return KEY if side.on_node else f"{IP[version]} daddr . {KEY}"


def refusal(version: int) -> str:
    """The chain that refuses a NodePort without backends."""
    return f"refused{version}"


def slots_of(servers: Iterable[VirtualServer], side: Side) -> Iterator[str]:
    """The elements of a map of slots, of servers none of whose clients are remembered."""
    for server in servers:
        for its, backends in sides_of(server):
            if its is side:
                yield from _slots(key_of(server), backends)


def _slots(key: str, backends: tuple[Backend, ...]) -> Iterator[str]:
    return (f"{key} . {slot} : {each.address} . {each.port}" for slot, each in enumerate(backends))


def chain_name(version: int, chain: LoadBalancer) -> str:
    side, count, by_address = chain
    return f"lb{version}-{count}{'-sticky' if by_address else ''}{side.value}"


def drawing(version: int, chains: Iterable[LoadBalancer]) -> dict[str, Rules]:
    """The chains that draw one of so many backends."""
    ip, found = IP[version], {}
    for chain in chains:
        side, count, by_address = chain
        hashed = f"jhash {ip} saddr mod {count} seed {SEED}"
        draw = hashed if by_address and count > 1 else f"numgen random mod {count}"
        slots = f"@backends{version}{side.value}"
        found[chain_name(version, chain)] = (f"dnat {ip} to {answering(version, side)} . {draw} map {slots}",)
    return dict(sorted(found.items()))


def guard_of(version: int, sources: tuple[Prefix, ...]) -> str:
    """The chain that lets these sources through."""
    digest = hashlib.sha256(" ".join(map(str, sources)).encode()).hexdigest()
    return f"sources{version}-{digest[:16]}"


def guarding(version: int, guards: Mapping[str, tuple[Prefix, ...]]) -> dict[str, Rules]:
    """The chains of whom services are for. A set of ranges may be empty for a moment (see ruleset): a few
    prefixes are compared in rules, many of one length by a look-up without ranges."""
    return {name: (*_letting(version, sources), "drop") for name, sources in sorted(guards.items())}


def _letting(version: int, sources: Iterable[Prefix]) -> Iterator[str]:
    by_length: dict[int, list[Prefix]] = {}
    for source in sources:
        by_length.setdefault(source.prefixlen, []).append(source)
    for _, found in sorted(by_length.items()):
        if len(found) <= COMPARED:
            yield from (f"{IP[version]} saddr {source} return" for source in found)
        else:
            members = ", ".join(str(source.network_address) for source in found)
            yield f"{IP[version]} saddr & {found[0].netmask} {{ {members} }} return"


def with_spares(chains: Iterable[LoadBalancer]) -> set[LoadBalancer]:
    """These chains, and those for other numbers of backends that may be wanted next.

    nft 1.0.6 cannot add a chain that refers to a map of slots in force, so that a number of backends without
    a chain has the map made anew.
    """
    most = {(Side.BOTH, False): 0, (Side.NODE, False): 0}
    for side, count, by_address in chains:
        most[side, by_address] = max(count, most.get((side, by_address), 0))
    return {
        (side, count, by_address)
        for (side, by_address), longest in most.items()
        for count in range(1, max(SPARE_CHAINS, longest + longest // 4) + 1)
    }


def chain_of(server: VirtualServer, side: Side, backends: tuple[Backend, ...]) -> LoadBalancer:
    """The chain that draws one of these backends."""
    return (side, len(backends), server.affinity > 0)


def sides_of(server: VirtualServer) -> list[tuple[Side, tuple[Backend, ...]]]:
    """The sides that a server has backends for: a side without is in no map, and meets the refusal by its
    address. A NodePort has none of its own, and is refused by the map."""
    alike, internal, external = _SIDES[server.on_node]
    if server.internal == server.external:
        sides = [(alike, server.internal)]
    else:
        sides = [(internal, server.internal), (external, server.external)]
    return [(side, backends) for side, backends in sides if backends or server.on_node]


def in_order(servers: Iterable[VirtualServer]) -> list[VirtualServer]:
    """By what they answer to, so that the same servers make the same text."""
    return sorted(
        servers, key=lambda each: (each.address.version, int(each.address), each.protocol, each.port)
    )


def key_of(server: VirtualServer) -> str:
    """What a server answers to, as maps have it."""
    port = f"{PROTOCOL_NUMBERS[server.protocol]} . {server.port}"
    return port if server.on_node else f"{server.address} . {port}"


def ends_of(server: VirtualServer) -> set[str]:
    """Where a server's answers come from, as the set of them has it. Of TCP alone: nothing else has a
    window."""
    if server.protocol != "tcp":
        return set()
    number = PROTOCOL_NUMBERS["tcp"]
    ends = server.internal
    if server.external != ends:
        ends = (*ends, *server.external)
    return {f"{each.address} . {number} . {each.port}" for each in ends}
