"""The declared state as what a verdict is reached from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from l3net.model import Address, ClusterState, Labels, ObjectName, Pod, Policy, Requirement
from l3net.policy.known import selects


class KnownState:
    """What is declared at one time, indexed: make it anew once the state has changed.

    Of two pods that both claim an address, the one whose name comes first has it. `derived` are policies
    beside the declared ones, such as those of tenants.
    """

    def __init__(self, state: ClusterState, derived: Iterable[Policy] = ()) -> None:
        self._namespaces = state.namespaces
        self._pods: dict[Address, Pod] = {}
        for pod in state.pods.values():
            if not pod.finished and not pod.host_network:
                for address in pod.addresses:
                    other = self._pods.get(address)
                    if other is None or pod.name < other.name:
                        self._pods[address] = pod
        self._nodes: dict[Address, Labels] = {}
        for _, node in sorted(state.nodes.items()):
            for address in node.addresses:
                self._nodes.setdefault(address, node.labels)
        self._subjects: dict[str, _BySubject] = defaultdict(_BySubject)
        self._everywhere = _BySubject()
        for policy in (*state.policies.values(), *state.cluster_policies.values(), *derived):
            of = policy.subject.namespaces
            (self._subjects[of] if isinstance(of, str) else self._everywhere).add(policy)
        self._found: dict[ObjectName, tuple[Pod, tuple[Policy, ...]]] = {}

    def pod_at(self, address: Address) -> Pod | None:
        return self._pods.get(address)

    def namespace_labels(self, namespace: str) -> Labels:
        known = self._namespaces.get(namespace)
        return known.labels if known is not None else {}

    def node_labels_at(self, address: Address) -> Labels | None:
        return self._nodes.get(address)

    def policies_for(self, pod: Pod) -> tuple[Policy, ...]:
        found = self._found.get(pod.name)
        if found is None or found[0] is not pod:
            found = self._found[pod.name] = pod, self._find(pod)
        return found[1]

    def _find(self, pod: Pod) -> tuple[Policy, ...]:
        labels = self.namespace_labels(pod.name.namespace)
        possible = list(self._everywhere.possible(pod.labels))
        if (own := self._subjects.get(pod.name.namespace)) is not None:
            possible += own.possible(pod.labels)
        found = (each for each in possible if selects(each.subject, pod, labels))
        return tuple(sorted(found, key=lambda policy: policy.order))


class _BySubject:
    """Policies by a label that their pods must have, as far as they ask for one."""

    def __init__(self) -> None:
        self._any: list[Policy] = []
        self._labelled: dict[tuple[str, str], list[Policy]] = defaultdict(list)

    def add(self, policy: Policy) -> None:
        wanted = [each for each in policy.subject.pods.requirements if each.operator == "In"]
        if not wanted:
            self._any.append(policy)
            return
        fewest: Requirement = min(wanted, key=lambda each: len(each.values))
        for value in set(fewest.values):
            self._labelled[fewest.key, value].append(policy)

    def possible(self, labels: Mapping[str, str]) -> Iterable[Policy]:
        """Those that may be for a pod with these labels, and each once: a pod has one value of a key."""
        yield from self._any
        for label in labels.items():
            yield from self._labelled.get(label, ())
