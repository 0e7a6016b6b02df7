"""How much of the cluster an agent has to read: which Nodes, which Secrets."""

from __future__ import annotations

from collections.abc import Iterable

from l3net.kube.translate import valid_name
from l3net.model import BgpConfiguration, BgpPeer, Node, ObjectName

LABEL_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def every_node(configuration: BgpConfiguration, peers: Iterable[BgpPeer], own: Node | None) -> bool:
    """Whether a decision of the node `own` looks at other Nodes.

    The mesh does, and so does a peer that selects Nodes; and a node that is excluded from load balancing is
    not so when there is no other, nor does one that drains withdraw what no other serves. Without these, each
    Node's heartbeats would go to all for nothing.
    """
    return (
        configuration.mesh
        or any(peer.peer_selector is not None for peer in peers)
        or (own is not None and (LABEL_EXCLUDED in own.labels or configuration.drain.cause(own) is not None))
    )


def secrets_named(peers: Iterable[BgpPeer]) -> frozenset[ObjectName]:
    """The Secrets that hold the peers' passwords. What cannot be a name is none, and its peer says so."""
    return frozenset(
        peer.password.secret
        for peer in peers
        if peer.password is not None
        and valid_name(peer.password.secret.name)
        and valid_name(peer.password.secret.namespace)
    )
