"""Which Pods are followed, and that no policy is told before all that it may speak of is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from apiserver import Call, FakeApiServer
from kube_follower import (
    Follower,
    cluster_policy,
    configuration,
    namespace,
    network_policy,
    node,
    own,
    pod,
)

from l3net.kube.registry import KINDS
from l3net.model import Kind
from l3net.ports import Changed, InSync

Connect = Callable[..., Follower]
CRD = "clusternetworkpolicies"
TO_NODES = [{"action": "Accept", "to": [{"nodes": {}}]}]


def place(follower: Follower, kind: Kind, name: str) -> int:
    """Where the first event about an object stands."""
    return next(
        index
        for index, event in enumerate(follower.since(0))
        if isinstance(event, Changed) and (event.kind, event.name.name) == (kind, name)
    )


def pod_requests(api: FakeApiServer) -> list[str]:
    return [path for _, path in api.requests if "/pods" in path]


def test_without_policies_only_our_pods_are_followed(api: FakeApiServer, connect: Connect) -> None:
    api.put(pod("a", "10.244.1.5"), pod("b", "10.244.2.5", "n2"))
    follower = connect().synced()
    assert follower.names(Kind.POD) == {"a"}
    api.put(pod("c", "10.244.2.6", "n2"), pod("d", "10.244.1.6"))
    follower.has(Kind.POD, "a", "d")
    assert all("fieldSelector=spec.nodeName%3Dn1" in path for path in pod_requests(api))


@pytest.mark.parametrize("policy", [network_policy("p"), cluster_policy("p")], ids=lambda each: each["kind"])
def test_a_policy_comes_after_every_pod(
    api: FakeApiServer, connect: Connect, policy: dict[str, object]
) -> None:
    api.put(policy, *(pod(f"p{each}", f"10.244.2.{each}", "n2") for each in range(200)))
    follower = connect().synced()
    told = place(follower, Kind(policy["kind"]), "p")
    assert max(place(follower, Kind.POD, f"p{each}") for each in range(200)) < told
    assert told < follower.events.index(InSync())
    assert not any("spec.nodeName" in path for path in pod_requests(api)), "all of them, at once"


def test_the_first_policy_waits_for_the_pods(api: FakeApiServer, connect: Connect) -> None:
    api.put(pod("a", "10.244.1.5"), pod("b", "10.244.2.5", "n2"))
    follower = connect().synced()
    api.refuse(500, resource="pods")
    api.put(network_policy("p"))
    follower.until(lambda: "pods" in str(follower.rejected), "the Pods to be out of reach")
    assert not follower.names(Kind.NETWORK_POLICY)
    api.put(node("n1", "10.0.0.9"))
    follower.until(lambda: str(follower.state).count("10.0.0.9"), "what else changes")
    assert not follower.names(Kind.NETWORK_POLICY)
    api.allow()
    follower.has(Kind.NETWORK_POLICY, "p")
    assert place(follower, Kind.POD, "b") < place(follower, Kind.NETWORK_POLICY, "p")
    api.put(network_policy("q"), pod("c", "10.244.2.6", "n2"))
    follower.has(Kind.NETWORK_POLICY, "p", "q")
    follower.has(Kind.POD, "a", "b", "c")


def test_the_label_of_a_tenant_is_a_policy(api: FakeApiServer, connect: Connect) -> None:
    api.put(namespace("blue"), pod("a", "10.244.1.5"), pod("b", "10.244.2.5", "n2"))
    follower = connect(linger=0.0).synced()
    assert (follower.names(Kind.POD), follower.names(Kind.NAMESPACE)) == ({"a"}, {"blue"})
    api.put(namespace("green", **{"l3net.io/tenant": "green"}))
    follower.has(Kind.NAMESPACE, "blue", "green")
    assert place(follower, Kind.POD, "b") < place(follower, Kind.NAMESPACE, "green")
    api.put(namespace("green"))
    follower.has(Kind.POD, "a")
    assert follower.names(Kind.NAMESPACE) == {"blue", "green"}


def test_a_policy_that_goes_while_it_waits_never_comes(api: FakeApiServer, connect: Connect) -> None:
    follower = connect().synced()
    api.refuse(500, resource="pods")
    api.put(network_policy("p"))
    follower.until(lambda: "pods" in str(follower.rejected), "the Pods to be out of reach")
    api.remove("NetworkPolicy", "p")
    api.put(network_policy("q"))
    api.allow()
    follower.has(Kind.NETWORK_POLICY, "q")
    told = [event for event in follower.since(0) if isinstance(event, Changed) and event.fact is not None]
    assert not [event for event in told if event.name.name == "p"]


def test_pods_are_followed_for_a_while_after_the_last_policy(api: FakeApiServer, connect: Connect) -> None:
    api.put(network_policy("p"), pod("a", "10.244.1.5"), pod("b", "10.244.2.5", "n2"))
    follower = connect().synced()
    api.remove("NetworkPolicy", "p")
    follower.has(Kind.NETWORK_POLICY)
    api.put(pod("c", "10.244.2.6", "n2"))
    follower.has(Kind.POD, "a", "b", "c")


def test_then_they_are_not(api: FakeApiServer, connect: Connect) -> None:
    api.put(network_policy("p"), pod("a", "10.244.1.5"), pod("b", "10.244.2.5", "n2"))
    follower = connect(linger=0.0).synced()
    follower.has(Kind.POD, "a", "b")
    api.remove("NetworkPolicy", "p")
    follower.has(Kind.POD, "a")
    api.put(network_policy("p"))
    follower.has(Kind.POD, "a", "b")
    follower.has(Kind.NETWORK_POLICY, "p")


def test_a_policy_for_nodes_waits_for_every_node(api: FakeApiServer, connect: Connect) -> None:
    api.put(configuration(nodeToNodeMesh=False), node("n2", "10.0.0.2"))
    follower = connect().synced()
    assert follower.names(Kind.NODE) == {"n1"}
    api.put(cluster_policy("p", egress=TO_NODES))
    follower.has(Kind.CLUSTER_NETWORK_POLICY, "p")
    assert place(follower, Kind.NODE, "n2") < place(follower, Kind.CLUSTER_NETWORK_POLICY, "p")
    api.put(cluster_policy("p"))
    follower.has(Kind.NODE, "n1")


def test_an_egress_ip_waits_for_every_node_and_pod(api: FakeApiServer, connect: Connect) -> None:
    """Told before all Nodes are, its addresses would be held by the one that is known."""
    api.put(configuration(nodeToNodeMesh=False), node("n2", "10.0.0.2"), pod("b", "10.244.2.5", "n2"))
    follower = connect().synced()
    assert (follower.names(Kind.NODE), follower.names(Kind.POD)) == ({"n1"}, set())
    api.put(own("EgressIP", "e", namespaceSelector={}))
    follower.has(Kind.EGRESS_IP, "e")
    assert place(follower, Kind.NODE, "n2") < place(follower, Kind.EGRESS_IP, "e")
    assert place(follower, Kind.POD, "b") < place(follower, Kind.EGRESS_IP, "e")
    again = connect().synced()
    assert place(again, Kind.POD, "b") < place(again, Kind.EGRESS_IP, "e")
    assert place(again, Kind.EGRESS_IP, "e") < again.events.index(InSync())


# --- the controller ----------------------------------------------------------------------------------------


def test_the_controller_follows_no_pod_for_an_egress_ip(api: FakeApiServer, connect: Connect) -> None:
    api.put(pod("a", "10.244.1.5"), own("EgressIP", "e", namespaceSelector={}))
    kinds = KINDS.watched("controller")
    follower = connect(me="", kinds=kinds, nodes="all", secrets=False, linger=0.0).synced()
    follower.has(Kind.EGRESS_IP, "e")
    api.put(own("EgressIP", "f", namespaceSelector={}))
    follower.has(Kind.EGRESS_IP, "e", "f")
    assert not pod_requests(api)


def test_the_controller_follows_pods_for_policies_alone(api: FakeApiServer, connect: Connect) -> None:
    api.put(pod("a", "10.244.1.5"))
    kinds = KINDS.watched("controller")
    follower = connect(me="", kinds=kinds, nodes="all", secrets=False, linger=0.0).synced()
    assert not pod_requests(api)
    assert Kind.POD not in follower._datastore.views()
    api.put(cluster_policy("p"))
    follower.has(Kind.POD, "a")
    api.remove("ClusterNetworkPolicy", "p")
    follower.has(Kind.POD)
    asked = len(pod_requests(api))
    api.put(pod("b", "10.244.1.6"), node("n2", "10.0.0.2"))
    follower.has(Kind.NODE, "n1", "n2")
    assert len(pod_requests(api)) == asked


# --- a cluster without the CRD -----------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOON", "LATER"):
        monkeypatch.setattr(f"l3net.shell.kubernetes.absence.{name}", (0.02, 0.05))


def test_without_the_crd_there_are_none(api: FakeApiServer, connect: Connect, soon: None) -> None:
    api.undefined.add(CRD)
    api.put(network_policy("p"), pod("b", "10.244.2.5", "n2"))
    follower = connect().synced()
    follower.has(Kind.NETWORK_POLICY, "p")
    asked = sum(CRD in path for _, path in api.requests)
    follower.until(lambda: sum(CRD in path for _, path in api.requests) > asked + 3, "further questions")
    assert not follower.rejected
    api.undefined.clear()
    api.put(cluster_policy("q"))
    follower.has(Kind.CLUSTER_NETWORK_POLICY, "q")


def test_the_crd_is_asked_for_seldom(api: FakeApiServer, connect: Connect) -> None:
    api.undefined.add(CRD)
    connect().synced()
    assert sum(CRD in path for _, path in api.requests) == 1


def test_what_was_read_is_not_given_up_at_once(api: FakeApiServer, connect: Connect, soon: None) -> None:
    """An API server that has just begun may not know its CRDs yet."""
    api.put(cluster_policy("p"))
    follower = connect().synced()
    api.undefined.add(CRD)
    api.compact()
    api.cut()
    follower.until(lambda: CRD in str(follower.rejected), "the trouble")
    assert follower.names(Kind.CLUSTER_NETWORK_POLICY) == {"p"}
    api.undefined.clear()
    follower.until(lambda: not follower.rejected, "its end")


def test_with_its_crd_a_kind_goes(
    api: FakeApiServer, connect: Connect, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l3net.shell.kubernetes.absence.UNSURE", 0.0)
    api.put(cluster_policy("p"))
    follower = connect().synced()
    api.undefined.add(CRD)
    api.cut()
    follower.has(Kind.CLUSTER_NETWORK_POLICY)
    assert not follower.rejected


@pytest.mark.parametrize("plural", ["networkpolicies", "pods"])
def test_other_kinds_have_to_be_there(api: FakeApiServer, connect: Connect, plural: str) -> None:
    """The control."""
    api.undefined.add(plural)
    follower = connect()
    follower.until(lambda: plural in str(follower.rejected), "the trouble")
    assert not follower.in_sync


@pytest.mark.parametrize("plural", [CRD, "networkpolicies", "pods"])
def test_what_may_not_be_read_is_a_trouble(api: FakeApiServer, connect: Connect, plural: str) -> None:
    api.allowed = lambda call: call != Call("list", call.group, plural)
    follower = connect()
    follower.until(lambda: f"on {plural}" in str(follower.rejected), "the trouble")
    assert not follower.in_sync
    api.allowed = None
    follower.synced()
    follower.until(lambda: not follower.rejected, "its end")
