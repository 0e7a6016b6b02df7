"""A policy as the manifest that declares it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

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
from l3net.naming import ANNOTATION_LOG_DROPS
from l3net.policy.blocks import prefixes_of

Document: TypeAlias = dict[str, object]
_BY_NAME: Final = "kubernetes.io/metadata.name"
_PEERS: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
#: What a rule is for that names nobody, or no port, since nothing that it names was understood. An empty list
#: would be everybody; no reader knows these words, and so they are read as what they are.
NOBODY: Final = "nobody"
EVERYBODY: Final = "everybody"


def manifest(policy: Policy) -> Document:
    """The NetworkPolicy or ClusterNetworkPolicy that a policy was read from, or could have been.

    What a ClusterNetworkPolicy cannot say is said in other words: exceptions of a block as the blocks around
    them, all ports of a protocol as a range, a port's name without its protocol.
    """
    metadata: Document = {"name": policy.name.name}
    if policy.name.namespace:
        metadata["namespace"] = policy.name.namespace
    if policy.log_drops:
        metadata["annotations"] = {ANNOTATION_LOG_DROPS: "true"}
    if policy.tier is Tier.NETWORK_POLICY:
        version, kind, spec = "networking.k8s.io/v1", "NetworkPolicy", _network(policy)
    else:
        version, kind = "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"
        spec = _cluster(policy)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _network(policy: Policy) -> Document:
    spec: Document = {"podSelector": _selector(policy.subject.pods)}
    said = [each for each in Direction if policy.rules(each) is not None]
    spec["policyTypes"] = [each.value.capitalize() for each in said]
    for direction in said:
        rules: list[Document] = []
        for rule in policy.rules(direction) or ():
            found: Document = {}
            if rule.peers is not None:
                peers = [_network_peer(each, policy.name.namespace) for each in rule.peers]
                found[_PEERS[direction]] = peers or [{NOBODY: {}}]
            if rule.ports is not None:
                found["ports"] = [_network_port(each) for each in rule.ports] or [{NOBODY: {}}]
            rules.append(found)
        spec[direction.value] = rules
    return spec


def _network_peer(peer: PolicyPeer, namespace: str) -> Document:
    if isinstance(peer, IpBlock):
        excepts = {"except": [str(each) for each in peer.excepts]} if peer.excepts else {}
        return {"ipBlock": {"cidr": str(peer.cidr), **excepts}}
    if isinstance(peer, NodeSelection):
        return {"nodes": _selector(peer.nodes)}
    if peer.namespaces == namespace:
        return {"podSelector": _selector(peer.pods)}
    pods = {} if peer.pods == EVERYTHING else {"podSelector": _selector(peer.pods)}
    return {"namespaceSelector": _namespaces(peer), **pods}


def _network_port(port: PolicyPort) -> Document:
    found: Document = {"protocol": port.protocol.upper()} if port.protocol else {}
    if port.name:
        return {**found, "port": port.name}
    if port.first or port.last:
        found["port"] = port.first
    return {**found, "endPort": port.last} if port.last > port.first else found


def _cluster(policy: Policy) -> Document:
    spec: Document = {
        "tier": policy.tier.shown,
        "priority": policy.priority,
        "subject": _cluster_pods(policy.subject),
    }
    for direction in Direction:
        if rules := policy.rules(direction):
            spec[direction.value] = [_cluster_rule(each, _PEERS[direction]) for each in rules]
    return spec


def _cluster_rule(rule: PolicyRule, side: str) -> Document:
    found: Document = {"name": rule.name} if rule.name else {}
    found["action"] = rule.action.value
    if rule.peers is None:
        found[side] = [{EVERYBODY: {}}]
    else:
        found[side] = list(_cluster_peers(rule.peers)) or [{NOBODY: {}}]
    if rule.ports is not None:
        found["protocols"] = [_cluster_port(each) for each in rule.ports] or [{NOBODY: {}}]
    return found


def _cluster_peers(peers: Iterable[PolicyPeer]) -> Iterator[Document]:
    """Blocks that stand side by side are one peer's networks."""
    networks: list[str] = []
    for peer in peers:
        if isinstance(peer, IpBlock):
            networks += map(str, prefixes_of([peer]))
            continue
        if networks:
            yield {"networks": networks}
            networks = []
        yield {"nodes": _selector(peer.nodes)} if isinstance(peer, NodeSelection) else _cluster_pods(peer)
    if networks:
        yield {"networks": networks}


def _cluster_pods(selection: PodSelection) -> Document:
    if selection.pods == EVERYTHING:
        return {"namespaces": _namespaces(selection)}
    return {"pods": {"namespaceSelector": _namespaces(selection), "podSelector": _selector(selection.pods)}}


def _cluster_port(port: PolicyPort) -> Document:
    if port.name:
        return {"destinationNamedPort": port.name}
    if port.first == port.last != 0:
        return {port.protocol: {"destinationPort": {"number": port.first}}}
    start, end = (port.first, port.last) if port.last else (1, 65535)
    return {port.protocol: {"destinationPort": {"range": {"start": start, "end": end}}}}


def _namespaces(selection: PodSelection) -> Document:
    chosen = selection.namespaces
    return {"matchLabels": {_BY_NAME: chosen}} if isinstance(chosen, str) else _selector(chosen)


def _selector(selector: Selector) -> Document:
    """Labels as far as they stand first and in order, as they are read; the rest as expressions."""
    equal: dict[str, str] = {}
    expressions: list[Document] = []
    last = ""
    for each in selector.requirements:
        if not expressions and each.operator == "In" and len(each.values) == 1 and each.key > last:
            equal[each.key] = each.values[0]
            last = each.key
        else:
            expressions.append(_expression(each))
    found: Document = {"matchLabels": equal} if equal else {}
    return {**found, "matchExpressions": expressions} if expressions else found


def _expression(requirement: Requirement) -> Document:
    values = {"values": list(requirement.values)} if requirement.values else {}
    return {"key": requirement.key, "operator": requirement.operator, **values}
