"""Why a node drains, and how."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model.kubernetes import Node


class DrainCause(enum.Enum):
    """Why a node drains. The value is what users see."""

    CORDON = "cordon"  # spec.unschedulable
    TAINT = "taint"
    SHUTDOWN = "shutdown"  # kubelet's graceful node shutdown
    LEAVE = "leave"  # `l3net node drain`


#: The cluster autoscaler's, on a node that it is about to remove.
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
#: Taints by which others say that a node is about to go: the cluster autoscaler, Karpenter, cloud providers.
DRAIN_TAINTS = frozenset(
    {
        TO_BE_DELETED,
        "karpenter.sh/disrupted",
        "node.cloudprovider.kubernetes.io/shutdown",
        "node.kubernetes.io/out-of-service",
    }
)


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """When a node drains, and how: first its routes are tagged GRACEFUL_SHUTDOWN (RFC 8326), later withdrawn.

    `wait`: seconds between the two. `prepend`: how often its AS number is put before the AS_PATH for eBGP
    peers, for routers that do not know the community.
    """

    on_cordon: bool = True
    taints: frozenset[str] = DRAIN_TAINTS
    wait: int = 10
    prepend: int = 3

    def cause(self, node: Node) -> DrainCause | None:
        """Why this Node drains, as far as its object tells; None if it does not."""
        if node.shutting_down:
            return DrainCause.SHUTDOWN
        if any(taint.key in self.taints and taint.effect != "PreferNoSchedule" for taint in node.taints):
            return DrainCause.TAINT
        if self.on_cordon and node.unschedulable:
            return DrainCause.CORDON
        return None


DEFAULT_DRAIN = DrainPolicy()
