"""The section `handing`: services for which every node chooses the same endpoint, wherever that is.

It stands in the tables `ip l3net` and `ip6 l3net`, beside that of all other sections: a packet is sent on as
it is by a statement (`dup`) that family inet does not have. They are there as long as there is such a
service. A change of endpoints changes the elements of the slots that move.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, compress
from operator import ne
from typing import Final

from l3net.firewall import handrules
from l3net.firewall.contents import IP, Element, Statements, chain_blocks, listed
from l3net.firewall.facts import FirewallPlan, texts_of, widest_first
from l3net.firewall.handrules import ASKING, SLOTS, HandFacts, variant
from l3net.firewall.nat import in_order, key_of
from l3net.firewall.ranking import places, sizes
from l3net.firewall.section import NOTHING, Made, Servers, Step
from l3net.model import Envelope, Prefix, ServerKey, Spread, VirtualServer
from l3net.naming import NFT_TABLE

#: How long after a slot has moved its new owner asks the one before, of flows of datagrams.
ASKED_FOR: Final = "1h"
#: A gateway, or an endpoint; None: there is no element.
_Slot = str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The node that had a slot of this one's before: the gateways by which packets go to it, and ask it."""

    hands: str
    gateway: str


@dataclass(frozen=True, slots=True)
class Filled:
    """What one server's table holds: for each map, the element's end by slot."""

    key: str
    hands: str  # the chain for its packets
    translates: str
    by_map: tuple[tuple[_Slot, ...], ...]  # as SLOTS
    asked: tuple[Asked | None, ...] = ()  # of datagrams, which do not say whether they are the first

    def leading(self) -> Iterator[Element]:
        yield "keys", self.key
        yield "spread", f"{self.key} : goto {self.hands}"
        yield "placed", f"{self.key} : goto {self.translates}"

    def slots(self) -> Iterator[Element]:
        for name, ends in zip(SLOTS, self.by_map, strict=True):
            for slot, end in enumerate(ends):
                if end is not None:
                    yield name, f"{self.key} . {slot} : {end}"

    def asks(self) -> Iterator[tuple[str, Asked]]:
        """Of a table made anew, as if all slots of this node had just come to it: whom to ask for each."""
        for slot, (owner, asked) in enumerate(zip(self.by_map[0], self.asked, strict=False)):
            if owner is None and asked is not None:
                yield f"{self.key} . {slot}", asked


def asking(at: str, gateway: str) -> str:
    """The element for a slot."""
    return f"{at} timeout {ASKED_FOR} : {gateway}"


@dataclass(slots=True)
class _Contents:
    """All of both tables: what a plan and its spread servers come to."""

    facts: HandFacts | None = None  # None: there are no tables
    nodes: dict[int, frozenset[str]] = field(default_factory=dict)
    filled: dict[ServerKey, Filled] = field(default_factory=dict)
    ready: frozenset[str] = frozenset()  # other nodes
    #: Whom was said to be asked, by slot: in force for a while yet, or not any more.
    passing: dict[str, str] = field(default_factory=dict)

    def of_family(self, version: int) -> Iterator[Filled]:
        return (each for key, each in self.filled.items() if key[0].version == version)

    def lines(self, version: int) -> Iterator[str]:
        """One table's block."""
        if self.facts is None:
            return
        elements: dict[str, list[str]] = {"nodes": sorted(self.nodes[version])}
        for filled in self.of_family(version):
            asks = ((ASKING, asking(at, asked.gateway)) for at, asked in filled.asks())
            for name, element in chain(filled.leading(), filled.slots(), asks):
                elements.setdefault(name, []).append(element)
        for kind, name, of in handrules.declarations(version):
            yield f"{kind} {name} {{"
            yield of
            yield from listed(elements.pop(name, ()))
            yield "}"
        yield from chain_blocks(handrules.chains(version, self.facts))


class HandingHeld:
    """What is in force of the section; `spread` are the servers that it is for."""

    def __init__(self, plan: FirewallPlan, spread: dict[ServerKey, VirtualServer]) -> None:
        self._spread = spread
        self._pending: dict[ServerKey, VirtualServer | None] = {}
        self._concern = _concern(plan)
        self.contents = _contents(plan, spread, {}, None)

    def hear(self, servers: Servers) -> None:
        """Servers that are others now: they wait here until a step is taken."""
        for key, server in servers.items():
            if key in self._spread or key in self._pending or (server is not None and server.spread):
                self._pending[key] = server

    def change(self, plan: FirewallPlan, servers: Servers) -> Step:
        self.hear(servers)
        concern = _concern(plan)
        if not self._pending and concern == self._concern:
            return Step("", lambda: None)
        pending = dict(self._pending)
        spread = {key: server for key, server in self._spread.items() if key not in pending}
        spread |= {key: server for key, server in pending.items() if server is not None and server.spread}
        before = self.contents
        kept = before.filled if concern == self._concern else {}
        now = _contents(plan, spread, {key: kept[key] for key in kept if key not in pending}, before)

        def take() -> None:
            self._spread, self._concern, self.contents = spread, concern, now
            for key, server in pending.items():
                if self._pending.get(key) is server:
                    del self._pending[key]

        return Step(_transaction(before, now), take)


class Handing:
    """See section.Section."""

    name: Final = "handing"
    own = re.compile(r"(?!)")  # of table `inet l3net`
    reads = NOTHING
    lives = False

    def made(self, plan: FirewallPlan) -> Made:
        by_key = in_order(server for server in plan.servers if server.spread)
        held = HandingHeld(plan, {server.key: server for server in by_key})
        beside = {IP[version]: tuple(held.contents.lines(version)) for version in IP}
        return Made((), held, beside={family: lines for family, lines in beside.items() if lines})

    def bare(self, plan: FirewallPlan) -> Made:
        return self.made(FirewallPlan(bridge=plan.bridge))


HANDING = Handing()


def _concern(plan: FirewallPlan) -> object:
    pods = plan.pod_ranges if plan.egress.wanted else None
    return plan.envelope, plan.bridge, plan.node_addresses, pods


def _of_pods(plan: FirewallPlan) -> tuple[Prefix, ...]:
    """Whose packets other nodes hand on to have them leave the cluster here."""
    if not plan.egress.wanted:
        return ()
    return tuple(each for version in IP for each in widest_first(version, plan.pod_ranges))


def _contents(
    plan: FirewallPlan,
    spread: Mapping[ServerKey, VirtualServer],
    kept: Mapping[ServerKey, Filled],
    before: _Contents | None,
) -> _Contents:
    """`kept` is what may be used again where the size of the table is the same."""
    envelope = plan.envelope
    # What is a node's own address leads to that node and to no other.
    spread = {key: server for key, server in spread.items() if key[0] not in plan.node_addresses}
    if envelope is None or not (spread or plan.egress.wanted):
        return _Contents()
    slots = sizes({key: len(server.spread.ready) for key, server in spread.items() if server.spread})
    filled: dict[ServerKey, Filled] = {}
    for key, server in spread.items():
        old = kept.get(key)
        if old is not None and len(old.by_map[0]) == slots[key]:
            filled[key] = old
        else:
            filled[key] = fill(server, slots[key], envelope)
    nodes = {version: texts_of(version, plan.node_addresses) for version in IP}
    facts = HandFacts(plan.bridge, envelope.index, envelope.mtu - envelope.around, _of_pods(plan))
    ready = frozenset(end.node for end in envelope.ends if end.ready)
    if before is None or before.facts != facts:  # made anew
        asked = {at: each.gateway for one in filled.values() for at, each in one.asks()}
        return _Contents(facts, nodes, filled, ready, asked)
    if before.ready - ready:
        return _Contents(facts, nodes, filled, ready)  # nobody asks a node that has gone
    return _Contents(facts, nodes, filled, ready, dict(before.passing))


def fill(server: VirtualServer, slots: int, envelope: Envelope) -> Filled:
    """The table of one server."""
    spread = server.spread
    if spread is None:
        raise ValueError(f"{server.key} is not spread")
    version, me = server.address.version, envelope.node
    ready = {end.node for end in envelope.ends if end.ready}
    # What is not ready on a node that is not either would swallow what asks for it.
    others = tuple(each for each in spread.others if each.node == me or each.node in ready)
    named = {each.node for each in (*spread.ready, *others)}
    ends = [end for end in envelope.ends if end.node in named]
    gateways = {end.node: str(end.gateways[version, False]) for end in ends}
    askings = {end.node: str(end.gateways[version, True]) for end in ends}
    found = places(Spread(spread.ready, others), slots, me, frozenset(gateways))
    away = [None if each.node == me else gateways.get(each.node) for each in spread.ready]
    back = [None if each.node == me else askings.get(each.node) for each in spread.ready]
    here = [
        None if gateway else f"{each.backend.address} . {each.backend.port}"
        for each, gateway in zip(spread.ready, away, strict=True)
    ]
    # The last one of each is for slots after which nobody is asked, which are -1.
    following = [*(gateways.get(node) for node in found.nodes), None]
    asked = [*(Asked(gateways[node], askings[node]) if node in ready else None for node in found.nodes), None]
    name, datagrams = variant(slots, by_client=server.affinity > 0), server.protocol != "tcp"
    return Filled(
        key_of(server),
        f"{'hand' if found.ranked else 'outside'}-{name}",
        f"here-{name}",
        (
            tuple(map(away.__getitem__, found.owners)),
            () if datagrams else tuple(map(following.__getitem__, found.nexts)),
            tuple(map(here.__getitem__, found.owners)),
            tuple(map(back.__getitem__, found.owners)) if datagrams else (),
        ),
        tuple(map(asked.__getitem__, found.nexts)) if datagrams else (),
    )


# --- from what is in force to what is wanted ----------------------------------------------------------------


def _transaction(before: _Contents, now: _Contents) -> str:
    if before.facts != now.facts:
        return "".join(_anew(version, now) for version in IP)
    return "".join(_changes(version, before, now) for version in IP) if now.facts else ""


def _anew(version: int, now: _Contents) -> str:
    """One table taken away, and made where it is wanted."""
    table = f"table {IP[version]} {NFT_TABLE}"
    lines = [table, f"delete {table}"]
    if now.facts is not None:
        lines += [f"{table} {{", *now.lines(version), "}"]
    return "\n".join((*lines, ""))


def _changes(version: int, before: _Contents, now: _Contents) -> str:
    statements = Statements(family=IP[version])
    had, wanted = before.nodes[version], now.nodes[version]
    statements.deleted.update((("nodes", each), None) for each in sorted(had - wanted))
    statements.added.update((("nodes", each), None) for each in sorted(wanted - had))
    keys = [key for key in {**before.filled, **now.filled} if key[0].version == version]
    for key in keys:
        old, new = before.filled.get(key), now.filled.get(key)
        if old is not new:
            _move(statements, old, new)
            if old is not None and new is not None and new.asked:
                _pass_on(statements, old, new, now)
    if before.ready - now.ready:
        statements.emptied.append(f"flush map {IP[version]} {NFT_TABLE} {ASKING}\n")
    return statements.text()


def _pass_on(statements: Statements, old: Filled, new: Filled, now: _Contents) -> None:
    """Of datagrams' slots that have come here: flows go on where they are."""
    for slot, (had, one, asked) in enumerate(zip(old.by_map[0], new.by_map[0], new.asked, strict=False)):
        if one is None and had is not None and asked is not None and had == asked.hands:
            at = f"{new.key} . {slot}"
            before = now.passing.get(at, asked.gateway)
            if before != asked.gateway:
                # It may have run out by now: put as it was, it is there to be deleted.
                statements.put_back[ASKING, asking(at, before)] = None
                statements.deleted[ASKING, f"{at} : {before}"] = None
            now.passing[at] = asked.gateway
            statements.added[ASKING, asking(at, asked.gateway)] = None


def _move(statements: Statements, old: Filled | None, new: Filled | None) -> None:
    """One server's slots: those that stay are not touched."""
    gone = dict.fromkeys(old.leading() if old else ())
    come = dict.fromkeys(new.leading() if new else ())
    statements.deleted.update((each, None) for each in gone if each not in come)
    statements.added.update((each, None) for each in come if each not in gone)
    if old is None or new is None or len(old.by_map[0]) != len(new.by_map[0]):
        statements.deleted.update((each, None) for each in (old.slots() if old else ()))
        statements.added.update((each, None) for each in (new.slots() if new else ()))
        return
    for name, was, ends in zip(SLOTS, old.by_map, new.by_map, strict=True):
        for slot in compress(range(len(ends)), map(ne, was, ends)):
            at, one, other = f"{new.key} . {slot}", was[slot], ends[slot]
            if one is not None:
                statements.deleted[name, f"{at} : {one}"] = None
            if other is not None:
                statements.added[name, f"{at} : {other}"] = None
