"""The section `policy`: whom pods may reach and be reached by (l3net.policy says it, this puts it).

A map for each direction leads from a pod's address to the chain of its policies, a pod without any is in none
of them. Each policy has a chain, each selection of pods a set, so that a pod that comes or goes changes
elements alone. What is established goes on without a look; what a policy newly forbids has its entry in
connection tracking deleted, and `ended` tells a segment of such a TCP connection from one of a connection
that tracking merely does not know. Of UDP, an answer that is under way then would begin a flow the other way
round, which may be allowed, and what it answers would go on as answers of that: `late` drops it.

Everything a packet is judged by here is looked up in sets of exact values or compared in rules, since sets of
ranges are empty for a moment while they are made (see ruleset).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from l3net.firewall.contents import IP, Rules, Statements, chain_blocks, hook, set_block
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.policycontents import EGRESS, EGRESS_MAC, INGRESS, LiveSet, PolicyContents
from l3net.firewall.section import NOTHING, Made, Servers, Step
from l3net.naming import NFT_TABLE

#: The sets of ended TCP connections, by their five parts.
ENDED: Final = "ended"
#: Seconds for which an ended TCP connection is known: as long as an end goes on trying (tcp_retries2).
ENDED_FOR: Final = 1200
#: Which the guard of its port holds a pod to.
_BY_MAC: Final = f"ether saddr vmap @{EGRESS_MAC}"
ENDED_MOST: Final = 65536
#: The sets of answers to ended UDP flows, by their five parts.
LATE: Final = "late"
#: Seconds in which such an answer is taken for one. What comes later begins a flow of its own.
LATE_FOR: Final = 10
#: The sets of what is over, which the next agent is to know, too.
_OVER: Final = frozenset(f"{name}{version}" for name in (ENDED, LATE) for version in IP)
_ND = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"


@dataclass(slots=True)
class PolicyHeld:
    """What is in force of the section."""

    contents: PolicyContents
    mark: int
    chains: dict[str, Rules]
    sets: dict[str, set[str]]
    counters: set[str]
    bridge: str

    def change(self, plan: FirewallPlan, _servers: Servers) -> Step:
        """The way to what the plan's policies are by now."""
        contents, mark = plan.policy, plan.policy.mark
        journal = contents.since(self.mark) if contents is self.contents else None
        statements = Statements()
        if journal is None:
            names = {*contents.chains, *contents.sets, *contents.counters}
            names |= {*self.chains, *self.sets, *self.counters}
            elements: Mapping[str, set[str]] = {
                name: {*live.elements} | self.sets.get(name, set()) for name, live in contents.sets.items()
            }
        else:
            names = {name for name, element in journal if element is None}
            elements = _grouped(journal)
        self._structure(statements, contents, names)
        for name, touched in elements.items():
            live = contents.sets.get(name)
            if live is not None and not (name in names and name not in self.sets):
                self._elements(statements, name, live, touched)
        if plan.bridge != self.bridge:
            statements.chains(dict(_base(self.bridge)), dict(_base(plan.bridge)))

        def take() -> None:
            self._take(plan, mark, names, elements)

        return Step(statements.text(), take)

    def hear(self, servers: Servers) -> None:
        pass

    def _structure(self, statements: Statements, contents: PolicyContents, names: set[str]) -> None:
        """Chains, sets and counters that have come, gone or changed."""
        before = {name: self.chains[name] for name in names if name in self.chains}
        now = {name: contents.chains[name] for name in names if name in contents.chains}
        for name in sorted(names):
            if name in contents.counters and name not in self.counters:
                statements.declared.append(f"add counter inet {NFT_TABLE} {name}\n")
            live = contents.sets.get(name)
            if live is not None and name not in self.sets:
                statements.declared.append(f"add set inet {NFT_TABLE} {name} {{ {live.of}; }}\n")
                statements.added.update(((name, text), None) for text in sorted(live.elements))
        statements.chains(before, now)
        for name in sorted(names):
            if name in self.sets and name not in contents.sets:
                statements.removed.append(f"delete set inet {NFT_TABLE} {name}\n")
            if name in self.counters and name not in contents.counters:
                statements.removed.append(f"delete counter inet {NFT_TABLE} {name}\n")

    def _elements(self, statements: Statements, name: str, live: LiveSet, touched: set[str]) -> None:
        held = self.sets.get(name, set())
        for element in sorted(touched):
            if element in live.elements:
                if element not in held:
                    statements.added[name, element] = None
            elif element in held:
                # A map's element goes by its key.
                statements.deleted[name, element.partition(" : ")[0] if live.verdicts else element] = None

    def _take(self, plan: FirewallPlan, mark: int, names: set[str], elements: Mapping[str, set[str]]) -> None:
        """The kernel has taken it; nobody has changed the contents meanwhile."""
        contents = plan.policy
        for name in names:
            _follow(self.chains, contents.chains, name)
            if name in contents.counters:
                self.counters.add(name)
            else:
                self.counters.discard(name)
            if name not in contents.sets:
                self.sets.pop(name, None)
            elif name not in self.sets:
                self.sets[name] = set(contents.sets[name].elements)
        for name, touched in elements.items():
            live = contents.sets.get(name)
            if live is not None:
                held = self.sets[name]
                held |= touched & live.elements.keys()
                held -= touched - live.elements.keys()
        self.contents, self.mark, self.bridge = contents, mark, plan.bridge


def _grouped(journal: Iterable[tuple[str, str | None]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, element in journal:
        if element is not None:
            found.setdefault(name, set()).add(element)
    return found


def _follow(held: dict[str, Rules], wanted: Mapping[str, Rules], name: str) -> None:
    if name in wanted:
        held[name] = wanted[name]
    else:
        held.pop(name, None)


def _base(bridge: str) -> Iterator[tuple[str, Rules]]:
    """The chains that packets meet by themselves. A packet is judged by its source pod's policies first."""
    passing = "ct state established,related accept"
    pods = f'"{bridge}"'
    yield (
        "policy-egress",
        (
            hook("filter", "forward", 0),
            passing,
            *_over(),
            f"iifname != {pods} accept",
            *_judged("saddr", EGRESS),
            _BY_MAC,
        ),
    )
    # Its own node is to a pod as any other: what it may reach does not depend on where it was scheduled.
    yield (
        "policy-input",
        (
            hook("filter", "input", 0),
            f"iifname != {pods} accept",
            passing,
            *_over(),
            f"icmpv6 type {{ {_ND} }} accept",
            *_judged("saddr", EGRESS, itself=False),
            _BY_MAC,
        ),
    )
    # What the node itself begins is judged by nobody; its answers to what is over begin nothing.
    yield ("policy-output", (hook("filter", "output", 0), f"oifname != {pods} accept", passing, *_over()))
    yield (
        "policy-ingress",
        (hook("filter", "forward", 1), passing, f"oifname != {pods} accept", *_judged("daddr", INGRESS)),
    )


def _over() -> Iterator[str]:
    """A segment of a connection that a policy ended: both ends hear that it is over. An answer to an ended
    flow's datagram does not arrive."""
    for version, ip in IP.items():
        yield f"ct state new {ip} saddr . udp sport . {ip} daddr . udp dport @{LATE}{version} drop"
        yield (
            f"ct state new tcp flags & (fin|syn|rst|ack) != syn {ip} saddr . tcp sport . {ip} daddr"
            f" . tcp dport @{ENDED}{version} reject with tcp reset"
        )


def _judged(side: str, name: str, *, itself: bool = True) -> Iterator[str]:
    for version, ip in IP.items():
        if itself:
            yield f"{ip} saddr . {ip} daddr @self{version} accept"
        yield f"{ip} {side} vmap @{name}{version}"


class PolicySection:
    """See section.Section."""

    name = "policy"
    own = re.compile(
        r"policy-(egress|input|output|ingress)|(egress|ingress|self|ended|late|held)[46]|egress-mac"
        r"|(peers|named|nodes|nets)[46]-.*|(pol|mix)-.*"
    )
    reads = NOTHING
    lives = True

    def made(self, plan: FirewallPlan) -> Made:
        made = _made(plan.policy, plan.bridge)
        return Made(made.lines, made.held, _OVER)

    def bare(self, plan: FirewallPlan) -> Made:
        """Pods that have policies reach nobody while these are refused: what is promised is not left open."""
        made = _made(PolicyContents(), plan.bridge)
        lines: list[str] = []
        rules = [hook("filter", "forward", 0), "ct state established,related accept"]
        for version, ip in IP.items():
            found = {each for each in plan.policy.judged if (":" in each) == (version == 6)}
            made.held.sets[f"held{version}"] = found
            lines += set_block(f"held{version}", f"typeof {ip} saddr", sorted(found))
            rules += [f"{ip} saddr @held{version} drop", f"{ip} daddr @held{version} drop"]
        made.held.chains["policy-held"] = tuple(rules)
        lines += chain_blocks({"policy-held": tuple(rules)})
        return Made((*made.lines, *lines), made.held, _OVER)


@dataclass(frozen=True, slots=True)
class _PolicyMade:
    lines: tuple[str, ...]
    held: PolicyHeld


def _made(contents: PolicyContents, bridge: str) -> _PolicyMade:
    lines = [f"counter {name} {{ }}" for name in sorted(contents.counters)]
    for name, live in contents.sets.items():
        lines += _block(name, live)
    for version, ip in IP.items():
        lines += _passing_block(ENDED, "tcp", ENDED_FOR, version, ip)
        lines += _passing_block(LATE, "udp", LATE_FOR, version, ip)
    lines += chain_blocks(contents.chains)
    lines += chain_blocks(dict(_base(bridge)))
    held = PolicyHeld(
        contents,
        contents.mark,
        dict(contents.chains),
        {name: set(live.elements) for name, live in contents.sets.items()},
        set(contents.counters),
        bridge,
    )
    return _PolicyMade(tuple(lines), held)


def _block(name: str, live: LiveSet) -> Iterator[str]:
    if not live.verdicts:
        yield from set_block(name, live.of, sorted(live.elements))
        return
    yield f"map {name} {{"
    yield live.of
    if live.elements:
        yield "elements = {"
        yield ",\n".join(sorted(live.elements))
        yield "}"
    yield "}"


def _passing_block(name: str, protocol: str, seconds: int, version: int, ip: str) -> Iterator[str]:
    """A set whose elements go by themselves."""
    yield f"set {name}{version} {{"
    yield f"typeof {ip} saddr . {protocol} sport . {ip} daddr . {protocol} dport"
    yield f"size {ENDED_MOST}"
    yield "flags timeout"
    yield f"timeout {seconds}s"
    yield "}"


POLICY = PolicySection()
