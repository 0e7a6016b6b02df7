"""Which of the pods that a claim is for has the addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from l3net.floating.holding import Reason
from l3net.model import DrainPolicy, Node, ObjectName, Pod, Selector

#: What candidates are compared by: the smallest has the addresses.
Rank = tuple[bool, bool, str, str, ObjectName]


def usable(node: Node | None, drain: DrainPolicy) -> bool:
    """Whether a node is one to move addresses to. One that is not declared is none: of a node that is deleted
    the Pods stay for a while, and nobody announces for them."""
    return (
        node is not None
        and node.ready
        and not node.deleting
        and not node.shutting_down
        and drain.cause(node) is None
    )


def rank(pod: Pod, *, node_usable: bool, require_ready: bool) -> Rank:
    """The pod that has been ready longest comes first, so that nobody takes the addresses from it as long as
    it stays so; one that fails and comes back has been ready for a shorter time than who took them over.
    Nothing has to be remembered for that. One that is being deleted, or whose node goes, comes after all
    others.
    """
    since = (pod.ready_since or "") if require_ready else pod.created
    return (pod.deleting, not node_usable, since, pod.created, pod.name)


def choose(
    candidates: Iterable[Pod], *, require_ready: bool, node_usable: Callable[[str], bool]
) -> tuple[Pod | None, Reason, str]:
    """The pod that has the addresses; where none has, why not."""
    best: tuple[Rank, Pod] | None = None
    # Of those that cannot have them the first by name says why, so that everybody says the same.
    failed: tuple[ObjectName, Reason, str] | None = None
    for pod in candidates:
        if pod.finished:
            continue
        reason, why = _hindrance(pod, require_ready=require_ready)
        if reason is Reason.HELD:
            found = rank(pod, node_usable=node_usable(pod.node), require_ready=require_ready)
            if best is None or found < best[0]:
                best = found, pod
        elif failed is None or pod.name < failed[0]:
            failed = pod.name, reason, why
    if best is not None:
        return best[1], Reason.HELD, ""
    return (None, *failed[1:]) if failed is not None else (None, Reason.NO_POD, "no pod is selected")


def _hindrance(pod: Pod, *, require_ready: bool) -> tuple[Reason, str]:
    """Why a pod cannot have addresses; HELD where it can."""
    if pod.host_network:
        return Reason.HOST_NETWORK, f"pod {pod.name} is on its node's network"
    if not pod.node or not pod.addresses:
        return Reason.NOT_READY, f"pod {pod.name} has no address yet"
    if require_ready and pod.ready_since is None:
        return Reason.NOT_READY, f"pod {pod.name} is not ready"
    return Reason.HELD, ""


def primary(selector: Selector) -> tuple[str, str] | None:
    """A label that every selected pod has, by which candidates are found without looking at all pods."""
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1:
            return requirement.key, requirement.values[0]
    return None
