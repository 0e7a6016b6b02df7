"""One policy, one direction, as the rules of a chain, and the sets that these look into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

from l3net.firewall.contents import IP, Rules
from l3net.model import (
    Direction,
    IpBlock,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Prefix,
    Rule,
    Selector,
)
from l3net.naming import POLICY_LOG_GROUP, PROTOCOL_NUMBERS
from l3net.policy.blocks import prefixes_of
from l3net.policy.sets import NodeSet, PodSet, digest

#: Prefixes of one rule that are compared; more are looked up, in a set for each length.
COMPARED: Final = 8
#: Rules for one of a policy's; where peers times ports are more, the peers have a chain of their own.
PRODUCT: Final = 8
#: What is logged of one policy's drops in a second.
LOGGED: Final = 10
_EVERY_POD: Final = PodSelection(Selector())

#: A condition and the family it is of, 0 for both.
Term: TypeAlias = tuple[int, str]


@dataclass(slots=True)
class Chains:
    """The chains of a policy's direction by name, the first the one that is jumped to."""

    name: str
    chains: dict[str, Rules] = field(default_factory=dict)
    pods: set[PodSet] = field(default_factory=set)
    nodes: set[NodeSet] = field(default_factory=set)
    nets: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)  # type and elements
    counters: set[str] = field(default_factory=set)
    refuses: bool = False  # whether any rule does more than accept: a peer that comes may be one of those


def chain_name(policy: Policy, direction: Direction, passing: str = "") -> str:
    """By its name and not by what it says: the chain stays, and its rules change in one instant. `passing`:
    see `compiled`."""
    name = f"pol-{digest(policy.tier, policy.name)}-{direction.value}"
    return f"{name}-{digest(passing)}" if passing else name


def counter_name(policy: Policy, direction: Direction, action: Rule) -> str:
    return f"{chain_name(policy, direction)}-{action.value.lower()}"


def compiled(policy: Policy, direction: Direction, passing: str = "") -> Chains:
    """The chains of a direction, which the policy has. `passing`: what a rule that passes does, `goto ...`;
    a policy has chains for each place it passes to, also while it passes no more: the plain one is that of
    those who never did."""
    name = chain_name(policy, direction, passing)
    made = Chains(name)
    lines: list[str] = []
    for number, rule in enumerate(policy.rules(direction) or ()):
        made.refuses |= rule.action is not Rule.ACCEPT
        lines += _rule(made, policy, direction, rule, f"{name}-{number}", passing)
    made.chains = {name: tuple(lines), **made.chains}
    return made


def passes(policy: Policy, direction: Direction) -> bool:
    """Whether any of its rules passes on."""
    return any(rule.action is Rule.PASS for rule in policy.rules(direction) or ())


def log_statement(about: str) -> str:
    """Tells of a packet; `about` is what its prefix is to say (at most 100 characters)."""
    return f'limit rate {LOGGED}/second log prefix "{about}" group {POLICY_LOG_GROUP} snaplen 96'


def _rule(
    made: Chains, policy: Policy, direction: Direction, rule: PolicyRule, sub: str, passing: str
) -> Iterator[str]:
    peers = _peers(made, policy, direction, rule.peers)
    ports = _ports(made, policy, direction, rule)
    ends = _ends(made, policy, direction, rule, sub, passing)
    if len(peers) * len(ports) > PRODUCT and min(len(peers), len(ports)) > 1:
        made.chains[sub] = tuple(f"{text} {end}" for _, text in peers for end in ends)
        ends = [f"jump {sub}"]
        peers = [(0, "")]
    for of_peer, peer in peers:
        for of_port, port in ports:
            if not of_peer or not of_port or of_peer == of_port:
                for end in ends:
                    yield " ".join(filter(None, (peer, port, end)))


def _ends(
    made: Chains, policy: Policy, direction: Direction, rule: PolicyRule, sub: str, passing: str
) -> list[str]:
    if rule.action is Rule.PASS:
        return [passing or "accept"]
    counter = counter_name(policy, direction, rule.action)
    made.counters.add(counter)
    verdict = "accept" if rule.action is Rule.ACCEPT else "drop"
    end = f"counter name {counter} {verdict}"
    if rule.action is Rule.DENY and policy.log_drops:
        return [log_statement(sub), end]
    return [end]


# --- peers -----------------------------------------------------------------------------------------------


def _peers(
    made: Chains, policy: Policy, direction: Direction, peers: Sequence[PolicyPeer] | None
) -> list[Term]:
    if peers is None:
        return [(0, "")]
    side = "saddr" if direction is Direction.INGRESS else "daddr"
    found: list[Term] = []
    blocks: list[IpBlock] = []
    for peer in dict.fromkeys(peers):
        if isinstance(peer, IpBlock):
            blocks.append(peer)
        elif isinstance(peer, PodSelection):
            of = PodSet(peer)
            made.pods.add(of)
            found += [(version, f"{ip} {side} @{of.name(version)}") for version, ip in IP.items()]
        else:
            nodes = NodeSet(peer.nodes)
            made.nodes.add(nodes)
            found += [(version, f"{ip} {side} @{nodes.name(version)}") for version, ip in IP.items()]
    return [*found, *_blocks(made, side, blocks)]


def _blocks(made: Chains, side: str, blocks: Iterable[IpBlock]) -> Iterator[Term]:
    blocks = list(blocks)
    if sum(1 + len(each.excepts) for each in blocks) <= COMPARED:
        for each in blocks:
            yield each.cidr.version, _compared(side, each)
        return
    for version, ip in IP.items():
        mine = [each for each in blocks if each.cidr.version == version]
        lengths: Mapping[int, list[Prefix]] = _by_length(mine)
        full = 32 if version == 4 else 128
        for length, prefixes in sorted(lengths.items()):
            if not length:
                yield version, f"meta nfproto ipv{version}"
                continue
            elements = frozenset(str(each.network_address) for each in prefixes)
            name = f"nets{version}-{length}-{digest(sorted(elements))}"
            made.nets[name] = (f"type ipv{version}_addr", elements)
            masked = f" & {_mask(version, length)}" if length < full else ""
            yield version, f"{ip} {side}{masked} @{name}"


def _compared(side: str, block: IpBlock) -> str:
    version = block.cidr.version
    ip = IP[version]
    own = f"{ip} {side} {block.cidr}" if block.cidr.prefixlen else f"meta nfproto ipv{version}"
    excepts = [f"{ip} {side} != {each}" for each in block.excepts if each.version == version]
    return " ".join((own, *excepts))


def _by_length(blocks: Iterable[IpBlock]) -> dict[int, list[Prefix]]:
    """The addresses of blocks as prefixes that do not overlap, by their length."""
    lengths: dict[int, list[Prefix]] = defaultdict(list)
    for each in prefixes_of(blocks):
        lengths[each.prefixlen].append(each)
    return lengths


def _mask(version: int, length: int) -> str:
    return str((IPv4Network if version == 4 else IPv6Network)((0, length)).netmask)


# --- ports -----------------------------------------------------------------------------------------------


def _ports(made: Chains, policy: Policy, direction: Direction, rule: PolicyRule) -> list[Term]:
    if rule.ports is None:
        return [(0, "")]
    numbers: dict[str, set[int]] = defaultdict(set)
    found: list[Term] = []
    for port in dict.fromkeys(rule.ports):
        if port.name:
            found += _named(made, policy, direction, rule, port)
        elif not port.first:
            found.append((0, f"meta l4proto {PROTOCOL_NUMBERS[port.protocol]}"))
        elif port.first == port.last:
            numbers[port.protocol].add(port.first)
        else:
            found.append((0, f"{port.protocol} dport {port.first}-{port.last}"))
    for protocol, each in sorted(numbers.items()):
        ports = ", ".join(map(str, sorted(each)))
        found.append((0, f"{protocol} dport {{ {ports} }}" if len(each) > 1 else f"{protocol} dport {ports}"))
    return found


def _named(
    made: Chains, policy: Policy, direction: Direction, rule: PolicyRule, port: PolicyPort
) -> Iterator[Term]:
    """Of the destination: the policy's own pod, or the pod that is called."""
    if direction is Direction.INGRESS:
        sets = [PodSet(policy.subject, port.name, port.protocol, local=True)]
    else:
        peers = rule.peers
        selections = [each for each in peers or () if isinstance(each, PodSelection)]
        if peers is None or len(selections) < len(peers):
            selections = [_EVERY_POD]
        sets = [PodSet(each, port.name, port.protocol) for each in dict.fromkeys(selections)]
    for of in sets:
        made.pods.add(of)
        for version, ip in IP.items():
            yield version, f"{ip} daddr . meta l4proto . th dport @{of.name(version)}"
