"""What a verdict is reached from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from l3net.model import Address, Labels, Pod, PodSelection, Policy


class Known(Protocol):
    """Pods, namespaces, policies and nodes as they are known, to be asked one by one."""

    def pod_at(self, address: Address) -> Pod | None:
        """The pod that has an address of the pod network: not finished, and not on its node's network."""
        ...

    def namespace_labels(self, namespace: str) -> Labels:
        """Those of a namespace; none where it is not known."""
        ...

    def node_labels_at(self, address: Address) -> Labels | None:
        """Those of the node that has an address, None if no node has it."""
        ...

    def policies_for(self, pod: Pod) -> Iterable[Policy]:
        """All whose subject the pod is, in the order in which they are asked."""
        ...


def selects(selection: PodSelection, pod: Pod, namespace_labels: Labels) -> bool:
    """Whether a pod of the pod network is in a selection; `namespace_labels` are those of its namespace."""
    return chooses(selection, pod.name.namespace, namespace_labels, pod.labels)


def chooses(selection: PodSelection, namespace: str, namespace_labels: Labels, pod_labels: Labels) -> bool:
    """The same, by labels alone."""
    wanted = selection.namespaces
    if isinstance(wanted, str):
        if namespace != wanted:
            return False
    elif not wanted.matches(namespace_labels):
        return False
    return selection.pods.matches(pod_labels)
