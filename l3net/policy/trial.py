"""Whether one end may begin a connection to another, hop by hop: what `l3net policy test` answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from l3net.errors import ConfigError
from l3net.model import Address, ObjectName, Tier
from l3net.policy.known import Known
from l3net.policy.places import PORT, Place, Port, places, port_of
from l3net.policy.verdict import Decision, Packet, RuleName, Verdict, kind_of, verdict
from l3net.policy.view import Whereabouts


@dataclass(frozen=True, slots=True)
class Connection:
    """One that was judged, between two addresses."""

    source: Place
    destination: Place
    ends: tuple[Address, Address]
    port: Port
    verdict: Verdict


def trial(view: Whereabouts, source: str, destination: str, port: str = "") -> dict[str, Any]:
    """The answer as plain values. Raises ConfigError for what cannot be judged."""
    wanted = port_of(port) if port else None
    begin = places(view, source)
    # A service is asked by its own port; without one, by each that it has.
    ends = places(view, destination, wanted)
    known = view.known
    connections = [
        each
        for one in dict.fromkeys(begin)
        for other in ends
        for each in between(view, known, one, other, other.port or wanted or port_of(PORT))
    ]
    if not connections:
        raise ConfigError(f"{source} and {destination} have no address of one family")
    pods = {each.pod.name for each in (*begin, *ends) if each.pod is not None}
    notes = [
        f"{name} has no address yet: no block is taken to name it" for name in sorted(pods & view.placed)
    ]
    return {
        "allowed": all(each.verdict.allowed for each in connections),
        "source": source,
        "destination": destination,
        "connections": [_row(view, each) for each in connections],
        "notes": [*notes, *filter(None, (view.partial,))],
    }


def between(
    view: Whereabouts, known: Known, source: Place, destination: Place, port: Port
) -> Iterator[Connection]:
    """Judged in each family that both have."""
    for one in source.addresses:
        for other in destination.addresses:
            if one.version == other.version:
                packet = Packet(one, other, port.protocol, port.number, from_node(view, one, destination))
                yield Connection(source, destination, (one, other), port, verdict(known, packet))


def from_node(view: Whereabouts, source: Address, destination: Place) -> bool:
    """Whether it is the destination pod's own node that begins."""
    node = view.state.nodes.get(destination.node)
    return destination.pod is not None and node is not None and source in node.addresses


def _row(view: Whereabouts, each: Connection) -> dict[str, Any]:
    return {
        "allowed": each.verdict.allowed,
        "source": {"name": each.source.label, "address": str(each.ends[0]), "node": each.source.node},
        "destination": {
            "name": each.destination.label,
            "address": str(each.ends[1]),
            "node": each.destination.node,
            "service": each.destination.service,
        },
        "port": str(each.port),
        "because": each.verdict.always.value if each.verdict.always is not None else "",
        "decisions": [_decision(view, decision) for decision in each.verdict.decisions],
    }


def _decision(view: Whereabouts, each: Decision) -> dict[str, Any]:
    pod = view.pod(each.pod)
    return {
        "direction": each.direction.value,
        "pod": str(each.pod),
        "node": view.node_of(pod) if pod is not None else "",
        "allowed": each.allowed,
        "why": each.why.value,
        "rule": rule_row(each.by),
        "passedBy": rule_row(each.passed),
        "selectedBy": list(map(str, each.selected)),
        "text": str(each),
    }


def rule_row(rule: RuleName | None) -> dict[str, Any] | None:
    """A rule as programs read it."""
    if rule is None:
        return None
    return {
        **policy_row(rule.policy, rule.tier),
        "direction": rule.direction.value,
        "index": rule.index,
        "name": rule.name,
    }


def policy_row(name: ObjectName, tier: Tier) -> dict[str, Any]:
    """Which policy."""
    return {
        "kind": kind_of(tier).value,
        "namespace": name.namespace,
        "policy": name.name,
        "tier": tier.shown,
    }
