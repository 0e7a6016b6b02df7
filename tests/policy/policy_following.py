"""The book of policies of a node, and the rules that follow from it, as the declared state changes."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.policy import POLICY
from l3net.firewall.ruleset import ruleset
from l3net.model import ClusterState, Fact, Kind, ObjectName
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook

NODES = ("n1", "n2")
GATEWAYS = {node: (f"10.244.{node[1]}.1", f"fd00:244:{node[1]}::1") for node in NODES}
BLOCKS = {
    node: (ip_network(f"10.244.{node[1]}.0/24"), ip_network(f"fd00:244:{node[1]}::/112")) for node in NODES
}


class FollowedPolicies:
    """The book of a node. Where its rules are in force is said by `apply`, for all of them, and `amend`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.book = PolicyBook()
        self.plan = FirewallPlan(blocks=frozenset(BLOCKS[name]), policy=self.book.contents)
        self.apply(ruleset(self.plan))
        self.held = POLICY.made(self.plan).held
        self.state = ClusterState()

    def apply(self, text: str) -> None:
        raise NotImplementedError

    def amend(self, text: str) -> None:
        raise NotImplementedError

    def follow(self, state: ClusterState) -> str:
        """What has changed goes into the book, and from there into force; the transaction."""
        self._put(Kind.NAMESPACE, self.state.namespaces, state.namespaces)
        self._put(Kind.NODE, self.state.nodes, state.nodes)
        self._put(Kind.POD, self.state.pods, state.pods)
        self._put(Kind.NETWORK_POLICY, self.state.policies, state.policies)
        self._put(Kind.CLUSTER_NETWORK_POLICY, self.state.cluster_policies, state.cluster_policies)
        for name, pod in state.pods.items():
            if pod.node == self.name and not pod.host_network and not pod.finished:
                self.book.attach(str(name), Attached(name, pod.addresses))
        for key in [*self.book.attachments]:
            there = state.pods.get(ObjectName(*key.split("/")))
            if there is None or there.node != self.name or there.host_network or there.finished:
                self.book.detach(key)
        self.state = state
        return self.settle()

    def settle(self) -> str:
        self.book.settle()
        step = self.held.change(self.plan, {})
        if step.text:
            self.amend(step.text)
        step.take()
        return step.text

    def _put(self, kind: Kind, before: Mapping[Any, Fact], now: Mapping[Any, Fact]) -> None:
        for key in before.keys() | now.keys():
            old, new = before.get(key), now.get(key)
            if old == new:
                continue
            book: Any = self.book
            match kind:
                case Kind.NAMESPACE:
                    book.put_namespace(key, new.labels if new is not None else {})  # type: ignore[union-attr]
                case Kind.NODE:
                    book.put_node(key, new)
                case Kind.POD:
                    book.put_pod(key, new)
                case _:
                    namespaced = kind is Kind.NETWORK_POLICY
                    book.put_policy((namespaced, key if namespaced else ObjectName("", key)), new)
