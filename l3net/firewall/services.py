"""The section `services`: addresses and ports translated to backends; what has none is refused.

Ten thousand services take nft seconds to replace; the elements of one take milliseconds, however many there
are. So a change of servers changes elements, and a change of the node's own facts the few chains and elements
that follow from them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from l3net.firewall import sticky, translation
from l3net.firewall.contents import IP, Element, Statements, chain_blocks, set_block
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.nat import (
    PORT_PROTOCOLS,
    LoadBalancer,
    ServiceMaps,
    backends_map,
    chain_name,
    drawing,
    ends_of,
    guarding,
    in_order,
    slots_of,
    with_spares,
)
from l3net.firewall.section import NOTHING, Made, Servers, Step
from l3net.firewall.sticky import Sticky
from l3net.model import Address, Prefix, ServerKey, VirtualServer
from l3net.naming import NFT_TABLE


@dataclass(slots=True)
class ServicesHeld:
    """What is in force of the section. Elements that several servers may share are counted by set."""

    plan: FirewallPlan  # without servers
    servers: dict[ServerKey, VirtualServer]
    remembered: dict[ServerKey, int]  # with how many sets
    members: dict[str, Counter[str]] = field(default_factory=dict)
    drawing: dict[int, set[LoadBalancer]] = field(default_factory=dict)
    guards: dict[int, Counter[str]] = field(default_factory=dict)

    def change(self, plan: FirewallPlan, servers: Servers) -> Step:
        """The way to a plan, whose servers are those in force but for these."""
        changing = _Changing(self, plan)
        for key, now in servers.items():
            before = self.servers.get(key)
            if before != now:
                changing.serve(before, now)
        return Step(changing.text(), changing.take)

    def hear(self, servers: Servers) -> None:
        pass  # the table's owner has them tried one by one


class Services:
    """See section.Section."""

    name = "services"
    own = re.compile(
        r"(vips|spared|ends|hairpin|refuse|refused|untranslated)[46]"
        r"|(backends|services)[46](-node)?(-internal|-external)?"
        r"|node[46]-(internal|external)|ports[46]-(tcp|udp|sctp)|invalid(-ports)?"
        r"|guarded[46]|sources[46]-.*|lb[46]-.*|(sticky|end|clients)[46]-.*|internal|external"
        r"|(prerouting|output)-(nat|again|sources|sources-again|refuse)|forward-refuse"
    )
    reads = NOTHING
    lives = False

    def made(self, plan: FirewallPlan) -> Made:
        by_key = in_order(plan.servers)
        remembered = sticky.remembered_of(by_key)
        held = ServicesHeld(_without_servers(plan), {server.key: server for server in by_key}, remembered)
        filled: set[str] = set()
        lines: list[str] = []
        for version in IP:
            maps = ServiceMaps(version, remembered)
            for server in by_key:
                if server.address.version == version:
                    maps.add(server)
            held.drawing[version] = with_spares(maps.chains)
            held.guards[version] = maps.guarding()
            filled |= maps.sticky.sets.keys()
            lines += maps.definitions()
        del maps  # some megabytes at ten thousand services, and the members are about as much
        found: dict[str, list[str]] = {name: [] for version in IP for name in _shared(version)}
        for server in by_key:
            for name, text in _members(server, plan.blocks):
                found[name].append(text)
        held.members = {name: Counter(texts) for name, texts in found.items()}
        del found
        for version in IP:
            lines += _sets(version, held.members, plan.node_addresses)
        lines += chain_blocks(translation.chains(plan, _guarded(held.guards)))
        return Made(tuple(lines), held, frozenset(filled))

    def bare(self, plan: FirewallPlan) -> Made:
        return self.made(FirewallPlan(bridge=plan.bridge))


SERVICES = Services()


class _Changing:
    """One step of the section: it looks at what is in force, and changes it in `take` alone."""

    def __init__(self, held: ServicesHeld, plan: FirewallPlan) -> None:
        self._held = held
        self._plan = plan
        self._blocks_differ = plan.blocks != held.plan.blocks
        self._statements = Statements()
        self._servers: dict[ServerKey, VirtualServer | None] = {}
        self._remembered = held.remembered
        self._members: Counter[Element] = Counter()
        self._hairpins: dict[str, Counter[str]] = {}  # all, where the blocks differ
        self._wanted_chains: dict[int, set[LoadBalancer]] = {version: set() for version in IP}
        self._new_chains: dict[int, set[LoadBalancer]] = {}
        self._guards: dict[int, Counter[str]] = {version: Counter() for version in IP}
        self._sources: dict[str, tuple[Prefix, ...]] = {}

    # --- servers -----------------------------------------------------------------------------------------

    def serve(self, before: VirtualServer | None, now: VirtualServer | None) -> None:
        """One server that is another now."""
        old = self._maps(before) if before else None
        self._remember(before, now)
        new = self._maps(now) if now else None
        gone = dict.fromkeys(old.elements() if old else ())
        come = dict.fromkeys(new.elements() if new else ())
        statements = self._statements
        statements.deleted.update((each, None) for each in gone if each not in come)
        statements.added.update((each, None) for each in come if each not in gone)
        if (old and old.sticky.chains) or (new and new.sticky.chains):
            sticky.change(statements, old.sticky if old else Sticky(), new.sticky if new else Sticky())
        blocks = self._held.plan.blocks
        if before and old:
            self._servers[before.key] = None
            self._members.subtract(_members(before, blocks, hairpins=not self._blocks_differ))
            if old.guards:
                self._guards[old.version].subtract(old.guarding())
        if now and new:
            self._servers[now.key] = now
            self._members.update(_members(now, blocks, hairpins=not self._blocks_differ))
            self._wanted_chains[new.version] |= new.chains
            if new.guards:
                self._guards[new.version].update(new.guarding())
                self._sources |= new.guards

    def _maps(self, server: VirtualServer) -> ServiceMaps:
        maps = ServiceMaps(server.address.version, self._remembered)
        maps.add(server)
        return maps

    def _remember(self, before: VirtualServer | None, now: VirtualServer | None) -> None:
        """Whether a server's clients are remembered from now on: where they were, or there is room."""
        if not ((before and before.affinity) or (now and now.affinity)):
            return
        if self._remembered is self._held.remembered:
            self._remembered = dict(self._remembered)
        for server in (before, now):
            if server is not None:
                self._remembered.pop(server.key, None)
        if now is not None and now.affinity and len(self._remembered) < sticky.MOST:
            ends = sticky.sets_of(now)
            if ends + sum(self._remembered.values()) <= sticky.MOST_ENDS:
                self._remembered[now.key] = ends

    # --- the rest ----------------------------------------------------------------------------------------

    def text(self) -> str:
        """The transaction, once all servers have been told."""
        self._count()
        self._spare()
        if self._blocks_differ:
            self._turn()
        for version in IP:
            self._guard(version)
            self._draw(version)
        if self._guards[4] or self._guards[6] or _concern(self._plan) != _concern(self._held.plan):
            old = translation.chains(self._held.plan, _guarded(self._held.guards))
            self._statements.chains(old, translation.chains(self._plan, _guarded(self._guards_now())))
        return self._statements.text()

    def _count(self) -> None:
        """What the first server brings, and what the last one takes away."""
        for (name, text), difference in self._members.items():
            had = self._held.members[name][text]
            if had and not had + difference:
                self._statements.deleted[name, text] = None
            elif not had and difference:
                self._statements.added[name, text] = None

    def _spare(self) -> None:
        """A service's address that is also a node's own has other ports, which are the node's to answer."""
        old, new = self._held.plan.node_addresses, self._plan.node_addresses
        differing = old ^ new if old is not new else frozenset[Address]()
        for address in {*differing, *(key[0] for key in self._servers)}:
            if address not in old and address not in new:
                continue
            name, text = f"vips{address.version}", str(address)
            count = self._held.members[name][text]
            was, now = count > 0 and address in old, count + self._members[name, text] > 0 and address in new
            if was != now:
                elements = self._statements.added if now else self._statements.deleted
                elements[f"spared{address.version}", text] = None

    def _turn(self) -> None:
        """Which backends are pods of this node, anew."""
        self._hairpins = {f"hairpin{version}": Counter() for version in IP}
        for server in self._servers_now():
            for name, text in _hairpins(server, self._plan.blocks):
                self._hairpins[name][text] += 1
        for name, found in self._hairpins.items():
            before = self._held.members[name]
            self._statements.deleted.update(((name, text), None) for text in before if text not in found)
            self._statements.added.update(((name, text), None) for text in found if text not in before)

    def _guard(self, version: int) -> None:
        had = self._held.guards[version]
        for name, difference in self._guards[version].items():
            if not had[name] and difference:
                self._statements.chains({}, guarding(version, {name: self._sources[name]}))
            elif had[name] and not had[name] + difference:
                self._statements.chains({name: ()}, {})

    def _draw(self, version: int) -> None:
        """Where a number of backends has no chain yet: the side's chains and its map of slots are made anew,
        since nft 1.0.6 refers to no such map that is in force already."""
        had = self._held.drawing[version]
        missing = self._wanted_chains[version] - had
        if not missing:
            return
        sides = {side for side, _, _ in missing}
        new = {chain for chain in with_spares(missing) if chain[0] in sides} - had
        self._new_chains[version] = new
        statements = self._statements
        statements.declared += (
            f"add chain inet {NFT_TABLE} {name}\n"
            for name in sorted(chain_name(version, chain) for chain in new)
        )
        theirs = [chain for chain in had if chain[0] in sides]
        statements.emptied += (
            f"flush chain inet {NFT_TABLE} {name}\n"
            for name in sorted(chain_name(version, chain) for chain in theirs)
        )
        for name, rules in drawing(version, (*theirs, *new)).items():
            statements.rules(name, rules)
        drawn = [
            server
            for server in self._servers_now()
            if server.address.version == version and server.key not in self._remembered
        ]
        for side in sorted(sides, key=lambda each: each.value):
            name, of = backends_map(version, side)
            statements.deleted = {each: None for each in statements.deleted if each[0] != name}
            statements.emptied.append(f"delete map inet {NFT_TABLE} {name}\n")
            statements.emptied.append(f"add map inet {NFT_TABLE} {name} {{ typeof {of}; }}\n")
            statements.added.update(((name, slot), None) for slot in slots_of(drawn, side))

    def _servers_now(self) -> Iterator[VirtualServer]:
        changed = self._servers
        yield from (server for key, server in self._held.servers.items() if key not in changed)
        yield from (server for server in changed.values() if server is not None)

    def _guards_now(self) -> dict[int, Counter[str]]:
        return {version: _sum(self._held.guards[version], self._guards[version]) for version in IP}

    def take(self) -> None:
        """The kernel has taken it."""
        held = self._held
        held.guards = self._guards_now()
        held.plan, held.remembered = _without_servers(self._plan), self._remembered
        for key, server in self._servers.items():
            if server is None:
                held.servers.pop(key, None)
            else:
                held.servers[key] = server
        for (name, text), difference in self._members.items():
            counts = held.members[name]
            counts[text] += difference
            if not counts[text]:
                del counts[text]
        held.members |= self._hairpins
        for version, chains in self._new_chains.items():
            held.drawing[version] |= chains


def _without_servers(plan: FirewallPlan) -> FirewallPlan:
    return plan.serving(()) if plan.servers else plan


def _concern(plan: FirewallPlan) -> object:
    """What the chains that always stand depend on."""
    return (
        (plan.bridge, plan.blocks, plan.error_port, plan.service_cidrs, plan.ports_on),
        (plan.bgp_ports, plan.closed_ports, plan.open_ports),
    )


def _sum(one: Counter[str], other: Counter[str]) -> Counter[str]:
    return one + other if other else one


def _guarded(guards: Mapping[int, Counter[str]]) -> frozenset[int]:
    return frozenset(version for version, found in guards.items() if found)


def _shared(version: int) -> list[str]:
    """The sets whose elements several servers may have."""
    names = [f"{name}{version}" for name in ("vips", "ends", "hairpin")]
    return [*names, *(f"ports{version}-{protocol}" for protocol in PORT_PROTOCOLS)]


def _members(server: VirtualServer, blocks: Iterable[Prefix], *, hairpins: bool = True) -> Iterator[Element]:
    """The elements of sets, which several servers may share, once for each that has them."""
    version = server.address.version
    if server.on_node:
        yield f"ports{version}-{server.protocol}", str(server.port)
    else:
        yield f"vips{version}", str(server.address)
    for end in ends_of(server):
        yield f"ends{version}", end
    if hairpins:
        yield from _hairpins(server, blocks)


def _hairpins(server: VirtualServer, blocks: Iterable[Prefix]) -> Iterator[Element]:
    """A server's backends that are pods of this node: one may call the service, and meet itself."""
    version = server.address.version
    sides = (server.internal,) if server.internal == server.external else (server.internal, server.external)
    for address in {backend.address for backends in sides for backend in backends}:
        if address.version == version and any(address in block for block in blocks):
            yield f"hairpin{version}", f"{address} . {address}"


def _sets(
    version: int, members: Mapping[str, Counter[str]], node_addresses: Iterable[Address]
) -> Iterator[str]:
    """The sets of one family: service addresses, those of them that are a node's own, backends, hairpins."""
    of, ip = f"type ipv{version}_addr", IP[version]
    vips = members[f"vips{version}"]
    yield from set_block(f"vips{version}", of, vips)
    spared = sorted(address for address in node_addresses if str(address) in vips)
    yield from set_block(f"spared{version}", of, map(str, spared))
    for protocol in PORT_PROTOCOLS:
        name = f"ports{version}-{protocol}"
        yield from set_block(name, "type inet_service", sorted(members[name]))
    typed = f"typeof {ip} saddr . meta l4proto . th sport"
    yield from set_block(f"ends{version}", typed, sorted(members[f"ends{version}"]))
    hairpin = sorted(members[f"hairpin{version}"])
    yield from set_block(f"hairpin{version}", f"typeof {ip} saddr . {ip} daddr", hairpin)
