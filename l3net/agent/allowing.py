"""What pods of this node may send from beside their own addresses, told to the guard of their ports."""

from __future__ import annotations

from collections.abc import Mapping

from l3net.agent.shells import Pods
from l3net.cni.guard import Allowed, allowed_of
from l3net.model import ClusterState, Fact, ObjectName, Pod, Prefix


class Allowing:
    """`note` Pods as they change, `apply` what follows. `refused`: what pods ask for and do not get."""

    def __init__(self, me: str, pods: Pods) -> None:
        self._me = me
        self._pods = pods
        self._asking: dict[ObjectName, Pod] = {}
        self._told = Allowed()
        self.due = True
        self.refused: Mapping[ObjectName, tuple[Prefix, ...]] = {}

    def note(self, name: ObjectName, fact: Fact | None) -> None:
        """A Pod as it is now."""
        before = self._asking.pop(name, None)
        if isinstance(fact, Pod) and fact.node == self._me and fact.allowed_sources:
            self._asking[name] = fact
        if before != self._asking.get(name):
            self.due = True

    def apply(self, state: ClusterState) -> None:
        """Tell the guard if it is to know something else than before."""
        self.due = False
        allowed, self.refused = allowed_of(state, self._asking.values())
        if allowed != self._told:
            self._pods.allow(allowed)
            self._told = allowed

    def problems(self) -> list[str]:
        """A sentence for each pod that asks for what it does not get."""
        return [
            f"pod {pod}: may not send from {', '.join(map(str, prefixes))}: the annotation "
            "l3net.io/allowed-addresses of its Namespace does not allow that"
            for pod, prefixes in sorted(self.refused.items())
        ]
