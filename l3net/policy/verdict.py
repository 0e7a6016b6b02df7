"""What the first packet of a connection meets: whether it passes, and which rule or default says so.

The order is the Admin tier, then NetworkPolicies, then the Baseline tier, then everything passes. Egress of
the pod that sends is judged first, then ingress of the pod that receives; both must allow. Later packets of a
connection that passed, and what is related to it, are not judged.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from l3net.model import (
    Address,
    Direction,
    IpBlock,
    Kind,
    NodeSelection,
    ObjectName,
    Pod,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Rule,
    Tier,
)
from l3net.policy.known import Known, selects

#: Those that have ports; a rule with ports matches no other.
PORT_PROTOCOLS: Final = frozenset(("tcp", "udp", "sctp"))


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it is behind any translation of services: between the pods'
    own addresses, to the target port.

    `protocol` is tcp, udp, sctp or another's name, `port` the destination port, 0 where there is none.
    `from_node`: the node of the destination pod sends it itself, as kubelet does its probes.
    """

    source: Address
    destination: Address
    protocol: str
    port: int = 0
    from_node: bool = False


@dataclass(frozen=True, slots=True)
class RuleName:
    """One rule of a policy: its place among those of a direction, from 0, and what people call it, if at
    all."""

    policy: ObjectName
    tier: Tier
    direction: Direction
    index: int
    name: str = ""

    def __str__(self) -> str:
        called = f" ({self.name})" if self.name else ""
        return f"rule {self.direction.value}[{self.index}]{called} of {shown(self.policy, self.tier)}"


class Why(enum.Enum):
    """What decided in one direction. The value is the name in JSON."""

    RULE = "rule"
    NOT_SELECTED = "notSelected"  # no policy for the pod says anything of the direction: allowed
    NOT_ACCEPTED = "notAccepted"  # NetworkPolicies select the pod, and none has a rule that matches: denied
    UNDECIDED = "undecided"  # only ClusterNetworkPolicies select it, and none decides: allowed


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policies for one pod say of one direction.

    `by` is the rule that decided, None for a default. `selected`: the policies that were asked and had no
    rule, those of the NetworkPolicy tier if it decided. `passed`: the Admin rule that left it to them.
    """

    direction: Direction
    pod: ObjectName
    allowed: bool
    why: Why
    by: RuleName | None = None
    selected: tuple[ObjectName, ...] = ()
    passed: RuleName | None = None

    def __str__(self) -> str:
        says = f"{self.direction.value} of {self.pod} is {'allowed' if self.allowed else 'denied'}"
        names = ", ".join(str(name) for name in self.selected)
        match self.why:
            case Why.RULE:
                because = f"by {self.by}"
            case Why.NOT_SELECTED:
                because = "since no policy selects the pod"
            case Why.NOT_ACCEPTED:
                because = f"since it is selected by {names} and no rule matches"
            case Why.UNDECIDED:
                because = f"by default, since it is selected by {names} and nothing there decides"
        left = f", after {self.passed} passed it on" if self.passed is not None else ""
        return f"{says} {because}{left}"


class Always(enum.Enum):
    """Why no policy was asked. The value is what people read."""

    SELF = "a pod always reaches itself"
    FROM_NODE = "a node always reaches its own pods"
    NO_POD = "neither end is a pod that policies are for"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection may begin. `decisions`: of each direction that had a say, egress first;
    `always` if none had."""

    allowed: bool
    decisions: tuple[Decision, ...] = ()
    always: Always | None = None

    @property
    def denied(self) -> Decision | None:
        """The first decision that denies it."""
        return next((each for each in self.decisions if not each.allowed), None)

    def __str__(self) -> str:
        """One sentence."""
        told = "; ".join(str(each) for each in self.decisions) if self.always is None else self.always.value
        return f"{'Allowed' if self.allowed else 'Denied'}: {told}."


def kind_of(tier: Tier) -> Kind:
    """What a policy of a tier is declared as."""
    return Kind.NETWORK_POLICY if tier is Tier.NETWORK_POLICY else Kind.CLUSTER_NETWORK_POLICY


def shown(policy: ObjectName, tier: Tier) -> str:
    """A policy as people name it."""
    return f"{kind_of(tier).value} {policy}" + ("" if tier is Tier.NETWORK_POLICY else f" ({tier.shown})")


def verdict(known: Known, packet: Packet) -> Verdict:
    """What a packet that begins a connection meets."""
    source, destination = known.pod_at(packet.source), known.pod_at(packet.destination)
    if packet.from_node:
        return _FROM_NODE
    if source is None and destination is None:
        return _NO_POD
    if source is not None and destination is not None and source.name == destination.name:
        return _SELF
    decisions = []
    if source is not None:
        egress = _End(known, packet, Direction.EGRESS, packet.destination, destination, destination)
        decisions.append(egress.decide(source))
    if destination is not None:
        ingress = _End(known, packet, Direction.INGRESS, packet.source, source, destination)
        decisions.append(ingress.decide(destination))
    return Verdict(all(each.allowed for each in decisions), tuple(decisions))


_SELF: Final = Verdict(True, always=Always.SELF)
_FROM_NODE: Final = Verdict(True, always=Always.FROM_NODE)
_NO_POD: Final = Verdict(True, always=Always.NO_POD)


@dataclass(frozen=True, slots=True)
class _End:
    """A packet as one of its ends sees it: who the other end is, and whose the destination port is."""

    known: Known
    packet: Packet
    direction: Direction
    peer: Address
    peer_pod: Pod | None
    destination: Pod | None

    def decide(self, subject: Pod) -> Decision:
        """Ask the pod's policies in their order; the first rule that matches decides, unless it passes on."""
        direction, pod = self.direction, subject.name
        passed: RuleName | None = None
        asked: list[Policy] = []
        for policy in self.known.policies_for(subject):
            tier, rules = policy.tier, policy.rules(direction)
            if rules is None:
                continue
            if tier is Tier.BASELINE and asked and asked[-1].tier is Tier.NETWORK_POLICY:
                break
            asked.append(policy)
            if tier is Tier.ADMIN and passed is not None:
                continue
            index = self._first_match(rules)
            if index is None:
                continue
            rule = rules[index]
            by = RuleName(policy.name, tier, direction, index, rule.name)
            if rule.action is not Rule.PASS:
                return Decision(direction, pod, rule.action is Rule.ACCEPT, Why.RULE, by, (), passed)
            if tier is Tier.BASELINE:
                break
            passed = by
        if not asked:
            return Decision(direction, pod, True, Why.NOT_SELECTED)
        closed = asked[-1].tier is Tier.NETWORK_POLICY
        names = tuple(each.name for each in asked if not closed or each.tier is Tier.NETWORK_POLICY)
        why = Why.NOT_ACCEPTED if closed else Why.UNDECIDED
        return Decision(direction, pod, not closed, why, None, names, passed)

    def _first_match(self, rules: Sequence[PolicyRule]) -> int | None:
        for index, rule in enumerate(rules):
            if (rule.ports is None or self._of_ports(rule.ports)) and (
                rule.peers is None or any(map(self._of_peer, rule.peers))
            ):
                return index
        return None

    def _of_ports(self, ports: Sequence[PolicyPort]) -> bool:
        return self.packet.protocol in PORT_PROTOCOLS and any(map(self._of_port, ports))

    def _of_port(self, port: PolicyPort) -> bool:
        packet = self.packet
        if port.protocol not in ("", packet.protocol):
            return False
        if port.name:
            return self.destination is not None and any(
                each.name == port.name and each.protocol == packet.protocol and each.port == packet.port
                for each in self.destination.ports
            )
        return not (port.first or port.last) or port.first <= packet.port <= port.last

    def _of_peer(self, peer: PolicyPeer) -> bool:
        if isinstance(peer, IpBlock):
            return self.peer in peer.cidr and not any(self.peer in each for each in peer.excepts)
        if isinstance(peer, NodeSelection):
            labels = self.known.node_labels_at(self.peer)
            return labels is not None and peer.nodes.matches(labels)
        pod = self.peer_pod
        return pod is not None and selects(peer, pod, self.known.namespace_labels(pod.name.namespace))
