"""How much of the cluster an agent has to read: which Nodes, Pods and Secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Final

from l3net.kube.registry import KINDS
from l3net.kube.translate import valid_name
from l3net.model import (
    ClusterState,
    EgressIp,
    Fact,
    FloatingIp,
    IpPool,
    Kind,
    Namespace,
    NodeSelection,
    ObjectName,
    Policy,
    PoolUse,
    SecretKey,
)
from l3net.naming import LABEL_EXCLUDED, LABEL_TENANT

#: Kinds of policies, and that whose labels may stand for one.
POLICIES: Final = (Kind.NETWORK_POLICY, Kind.CLUSTER_NETWORK_POLICY, Kind.NAMESPACE)
#: Kinds that may say who has an address that moves.
MOVING: Final = (Kind.IP_POOL, Kind.FLOATING_IP, Kind.EGRESS_IP)


def is_policy(fact: Fact | None) -> bool:
    """Whether it says what Pods of other nodes may do: a policy, or a Namespace of a tenant."""
    return isinstance(fact, Policy) or (isinstance(fact, Namespace) and LABEL_TENANT in fact.labels)


def every_node(state: ClusterState, me: str) -> bool:
    """Whether a decision of the node `me` looks at other Nodes.

    The mesh does, and so do a peer that selects Nodes, a policy for what goes to some, who has a floating
    address and who holds an egress address; and a node that is excluded from load balancing is not so when
    there is no other, nor does one that drains withdraw what no other serves. Without these, each Node's
    heartbeats would go to all for nothing.
    """
    own = state.nodes.get(me)
    return (
        state.configuration.mesh
        or any(peer.peer_selector is not None for peer in state.peers.values())
        or names_nodes(state)
        or any_floating(state)
        or bool(state.egress)
        or (
            own is not None
            and (LABEL_EXCLUDED in own.labels or state.configuration.drain.cause(own) is not None)
        )
    )


def names_nodes(state: ClusterState) -> bool:
    """Whether a policy has Nodes for peers."""
    return any(
        isinstance(peer, NodeSelection)
        for policy in state.cluster_policies.values()
        for rule in (*(policy.ingress or ()), *(policy.egress or ()))
        for peer in rule.peers or ()
    )


def is_floating(fact: Fact | None) -> bool:
    """Whether it says who has a floating address: a FloatingIP, or a pool of such addresses."""
    return isinstance(fact, FloatingIp) or (
        isinstance(fact, IpPool) and PoolUse.FLOATING in fact.allowed_uses
    )


def is_moving(fact: Fact | None) -> bool:
    """Whether it says who has an address that moves: a floating one, or an EgressIP's."""
    return is_floating(fact) or isinstance(fact, EgressIp)


def any_floating(state: ClusterState) -> bool:
    """Whether there are pools of floating addresses: who has one is decided among the Pods of all nodes."""
    return any(map(is_floating, state.pools.values()))


def every_pod(state: ClusterState) -> bool:
    """Whether a decision looks at the Pods of other nodes."""
    return any_policy(state) or any_floating(state) or bool(state.egress)


def any_policy(state: ClusterState) -> bool:
    """Whether there is a policy, and with it a decision that looks at the Pods of other nodes."""
    return bool(state.policies or state.cluster_policies or any(map(is_policy, state.namespaces.values())))


def secrets_of(state: ClusterState) -> frozenset[ObjectName]:
    """The Secrets that are named in the declared state, by the kinds that may name any."""
    return secrets_named(
        fact for row in KINDS.values() if row.names_secrets for _, fact in row.objects(state)
    )


def secrets_named(facts: Iterable[object]) -> frozenset[ObjectName]:
    """The Secrets that these facts name, in whatever field: passwords of sessions and keys of BFD alike.

    What cannot be a name is none, and its peer says so.
    """
    return frozenset(
        key.secret
        for fact in facts
        for key in _secret_keys(fact)
        if valid_name(key.secret.name) and valid_name(key.secret.namespace)
    )


def _secret_keys(value: object) -> Iterator[SecretKey]:
    """Every SecretKey inside a fact: found by its type, so that no new field can be forgotten."""
    if isinstance(value, SecretKey):
        yield value
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _secret_keys(below)
    elif isinstance(value, tuple | frozenset):
        for below in value:
            yield from _secret_keys(below)
    elif is_dataclass(value):
        for each in fields(value):
            yield from _secret_keys(getattr(value, each.name))
