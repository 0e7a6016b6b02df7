"""Policies in words, as people are told of them."""

from __future__ import annotations

from l3net.model import (
    EVERYTHING,
    Direction,
    IpBlock,
    NodeSelection,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
    Tier,
)


def subject_words(policy: Policy) -> str:
    """Whom a policy is for."""
    return selection_words(policy.subject)


def selection_words(selection: PodSelection) -> str:
    """As in `pods with app=web in shop`."""
    pods = "all pods" if selection.pods == EVERYTHING else f"pods with {selector_words(selection.pods)}"
    where = selection.namespaces
    if isinstance(where, str):
        return f"{pods} in {where}"
    return pods if where == EVERYTHING else f"{pods} of namespaces with {selector_words(where)}"


def selector_words(selector: Selector) -> str:
    """As kubectl writes selectors."""
    return ",".join(map(_requirement, selector.requirements))


def _requirement(each: Requirement) -> str:
    values = ",".join(each.values)
    match each.operator:
        case "In":
            return f"{each.key}={values}" if len(each.values) == 1 else f"{each.key} in ({values})"
        case "NotIn":
            return f"{each.key}!={values}" if len(each.values) == 1 else f"{each.key} notin ({values})"
        case "Exists":
            return each.key
        case _:
            return f"!{each.key}"


def peer_words(peer: PolicyPeer) -> str:
    """One peer."""
    if isinstance(peer, IpBlock):
        excepts = ", ".join(map(str, peer.excepts))
        return f"{peer.cidr} except {excepts}" if excepts else str(peer.cidr)
    if isinstance(peer, NodeSelection):
        return "all nodes" if peer.nodes == EVERYTHING else f"nodes with {selector_words(peer.nodes)}"
    return selection_words(peer)


def port_words(port: PolicyPort) -> str:
    """As in `80/tcp`, `8000-8100/udp`, `port http/tcp`."""
    protocol = f"/{port.protocol}" if port.protocol else ""
    if port.name:
        return f"port {port.name}{protocol}"
    if not port.first:
        return f"every port of {port.protocol}"
    numbers = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    return numbers + protocol


def rule_words(rule: PolicyRule, direction: Direction) -> str:
    """As in `Accept from pods with app=web in shop on 80/tcp`."""
    side = "from" if direction is Direction.INGRESS else "to"
    peers = "everybody" if rule.peers is None else "; ".join(map(peer_words, rule.peers)) or "nobody"
    ports = "" if rule.ports is None else f" on {', '.join(map(port_words, rule.ports)) or 'no port'}"
    called = f" ({rule.name})" if rule.name else ""
    return f"{rule.action.value} {side} {peers}{ports}{called}"


def direction_words(policy: Policy, direction: Direction) -> list[str]:
    """What a policy says of a direction, a line a rule; none where it says nothing."""
    rules = policy.rules(direction)
    if rules is None:
        return []
    if not rules and policy.tier is Tier.NETWORK_POLICY:
        return ["nothing is accepted"]
    return [rule_words(rule, direction) for rule in rules]
