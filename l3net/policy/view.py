"""What questions of people are answered from: policies, and whom they are about, at one time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from l3net.model import Address, ClusterState, Node, ObjectName, Pod, Policy, Tier
from l3net.policy.known import Known
from l3net.policy.known_state import KnownState
from l3net.policy.tenants import tenant_policies

#: Where pods that are declared without an address are taken to be: addresses that nobody has (RFC 1112
#: section 4, RFC 9637), so that no block names them but one for everybody.
_NOWHERE: Final = (int(ip_address("240.0.0.1")), int(ip_address("3fff::1")))


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """`attached` are the pods that run on the node `me` with the addresses they have there, `subjected` the
    same with their policies; None: there is no node, all is judged as declared. `partial` tells why not every
    pod is known; empty: all are. `placed` are pods without an address, which have one of nowhere."""

    known: Known
    state: ClusterState
    policies: tuple[Policy, ...]
    me: str = ""
    attached: Mapping[ObjectName, tuple[Address, ...]] | None = None
    subjected: Mapping[ObjectName, tuple[Policy, ...]] | None = None
    partial: str = ""
    placed: frozenset[ObjectName] = field(default_factory=frozenset)

    def pod(self, name: ObjectName) -> Pod | None:
        """A pod that is declared, or attached to this node."""
        pod = self.state.pods.get(name)
        if pod is None and self.attached is not None:
            for address in self.attached.get(name, ()):
                found = self.known.pod_at(address)
                if found is not None and found.name == name:
                    return found
        return pod

    def pods(self) -> Iterable[Pod]:
        """All that there are, in order of their names; those that have ended too."""
        names = self.state.pods.keys() | (self.attached.keys() if self.attached is not None else set())
        for name in sorted(names):
            if (pod := self.pod(name)) is not None:
                yield pod

    def addresses(self, pod: Pod) -> tuple[Address, ...]:
        """Those that a pod has, one a family: that of this node's attachment rather than the declared one,
        and none that is another pod's by now."""
        own = self.attached.get(pod.name, ()) if self.attached is not None else ()
        declared = () if pod.finished else pod.addresses
        by_version: dict[int, Address] = {}
        for address in (*own, *declared):
            other = self.known.pod_at(address)
            if other is None or other.name == pod.name:
                by_version.setdefault(address.version, address)
        return tuple(by_version[version] for version in sorted(by_version))

    def node_of(self, pod: Pod) -> str:
        """The node that a pod is on; empty where that is not known."""
        return self.me if self.attached is not None and pod.name in self.attached else pod.node

    def node_at(self, address: Address) -> Node | None:
        """The node that has an address."""
        return next((node for node in self.state.nodes.values() if address in node.addresses), None)

    def subjects(self) -> dict[tuple[Tier, ObjectName], list[ObjectName]]:
        """By policy the pods that it is for: of this node, or of all where there is none."""
        found: dict[tuple[Tier, ObjectName], list[ObjectName]] = {}
        if self.subjected is not None:
            pairs: Iterable[tuple[ObjectName, Iterable[Policy]]] = sorted(self.subjected.items())
        else:
            running = (pod for pod in self.pods() if not pod.host_network and self.addresses(pod))
            pairs = ((pod.name, self.known.policies_for(pod)) for pod in running)
        for name, policies in pairs:
            for policy in policies:
                found.setdefault((policy.tier, policy.name), []).append(name)
        return found


def of_state(state: ClusterState) -> Whereabouts:
    """A declared state without any node, such as a directory of manifests: pods that have not run yet are
    judged, too."""
    pods: dict[ObjectName, Pod] = {}
    placed: set[ObjectName] = set()
    for number, (name, pod) in enumerate(sorted(state.pods.items())):
        if pod.addresses or pod.finished or pod.host_network:
            pods[name] = pod
        else:
            pods[name] = replace(pod, addresses=tuple(ip_address(first + number) for first in _NOWHERE))
            placed.add(name)
    whole = replace(state, pods=pods)
    derived = tenant_policies(state.namespaces.values())
    policies = (*state.policies.values(), *state.cluster_policies.values(), *derived)
    return Whereabouts(
        KnownState(whole, derived),
        whole,
        tuple(sorted(policies, key=lambda policy: policy.order)),
        placed=frozenset(placed),
    )
