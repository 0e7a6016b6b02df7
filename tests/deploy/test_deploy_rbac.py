"""RBAC: every call the code makes is allowed, and nothing is allowed that no code calls for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from controller_rig import Running, balancer, blocks, ingress, node, pool, until
from deploy_chart import documents
from kube_follower import BACKOFF, Follower, configuration, network_policy, own, peer, secret

from l3net.controller.decide import Settings
from l3net.model import Kind
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore
from l3net.shell.kubernetes.writer import KubeOwnNode

Grant = tuple[str, str, str, str, str]  # verb, group, resource, subresource, name or ""


def grants(account: str) -> set[Grant]:
    """What the chart's roles allow a service account, one entry for each verb."""
    found = documents({})
    roles = {(each["kind"], each["metadata"]["name"]): each.get("rules", []) for each in found}
    rules: list[Mapping[str, Any]] = []
    for each in found:
        if each["kind"].endswith("Binding") and account in [subject["name"] for subject in each["subjects"]]:
            rules += roles[each["roleRef"]["kind"], each["roleRef"]["name"]]
    return {
        (verb, group, resource.partition("/")[0], resource.partition("/")[2], name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def bare(granted: set[Grant]) -> set[Call]:
    return {Call(*grant[:4]) for grant in granted}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def test_the_controller(api: FakeApiServer, tmp_path: Path) -> None:
    granted = grants("l3net-controller")
    api.allowed = lambda call: call in bare(granted)
    api.put(
        pool("four", "10.244.0.0/16"),
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
        configuration(),
    )
    api.put(node("a"), node("b"), balancer("s"), balancer("t", {"l3net.io/load-balancer-ips": "10.9.9.9"}))
    api.put(network_policy("deny"))  # or no Pods are read
    api.put(
        pool("public", "203.0.113.0/24", allowedUses=["Floating"]),
        own("FloatingIP", "web", selector={"matchLabels": {"app": "web"}}),
        own("EgressIP", "web", namespaceSelector={}),
    )
    running = Running(api, tmp_path, "one", settings=Settings(grace=0.0))
    try:
        until(lambda: blocks(api, "a") and blocks(api, "b") and ingress(api, "s"), "blocks and an address")
        until(lambda: api.objects("Event"), "an Event")
        # each kind of ours, used wrongly, is told so
        api.put(
            configuration(holdTime=2),
            peer("bad", gtsm=True, multihop=3),
            own("BGPFilter", "bad", export=[{"action": "Accept", "cidr": "10.0.0.1/8"}]),
        )
        until(lambda: sum(call[2:] == ("bgpfilters", "status") for call in api.calls), "conditions")
        until(lambda: sum(call[2:] == ("bgpconfigurations", "status") for call in api.calls), "conditions")
        until(lambda: sum(call[2:] == ("bgppeers", "status") for call in api.calls), "conditions")
        until(lambda: sum(call[2:] == ("floatingips", "status") for call in api.calls), "conditions")
        until(lambda: sum(call[2:] == ("egressips", "status") for call in api.calls), "conditions")
        # the lease is renewed, a block freed, an Event repeated
        api.remove("Node", "b")
        until(
            lambda: "b " not in api.get("ConfigMap", "l3net-ledger", "kube-system")["data"]["blocks"],
            "b's block freed",
        )
        until(lambda: api.calls[Call("patch", "coordination.k8s.io", "leases")], "a renewal")
        running.controller.said = frozenset()
        running.advance(1)
        until(lambda: api.calls[Call("patch", "", "events")], "the Event again")
    finally:
        running.stop()
    assert set(api.calls) == bare(granted)
    # what is granted by name is called by that name
    named = {grant[4] for grant in granted if grant[4]}
    for method, path in api.requests:
        match = re.search(r"/(configmaps|leases)/([^/?]+)", path)
        if match:
            assert match[2] in named, (method, path)


def test_the_agent(api: FakeApiServer, tmp_path: Path) -> None:
    granted = grants("l3net-agent")
    api.allowed = lambda call: call in bare(granted)
    reference = {"secretKeyRef": {"name": "bgp", "key": "password"}}
    api.put(configuration(), node("n1"), peer("tor", password=reference), secret("bgp", "x"))
    client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig"))
    with Follower(KubernetesDatastore(client, "n1", backoff=BACKOFF)) as follower:
        follower.synced()
        own = KubeOwnNode(client, "n1")
        own.set_network_available()
        own.want_blocks({4: 2})
        own.warn("BlockStillInUse", "block 10.244.5.0/24 is no longer this node's")
        own.warn("BlockStillInUse", "block 10.244.5.0/24 is no longer this node's")
        own.tell(
            Kind.BGP_PEER, "tor", "SessionDown", "session of node n1 with 10.0.0.9 is down", normal=False
        )
        own.want_pools({"tenant": 1})
        own.take_part("true")
        own.report_sessions("tor", [("10.0.0.9", True, "")])
        until(lambda: set(api.calls) == bare(granted), "every call to be made", 10)
        assert not follower.rejected
    secrets = [path for _, path in api.requests if "/secrets" in path]
    assert secrets and all("/secrets/bgp" in path or "metadata.name%3Dbgp" in path for path in secrets)


def test_a_call_that_is_not_allowed_is_seen(api: FakeApiServer, tmp_path: Path) -> None:
    """The control."""
    granted = bare(grants("l3net-controller")) - {Call("patch", "", "nodes")}
    api.allowed = lambda call: call in granted
    api.put(pool("four", "10.244.0.0/16"), configuration(), node("a"))
    running = Running(api, tmp_path, "one", settings=Settings())
    try:
        until(lambda: "forbidden" in running.controller.problem, "the refusal")
    finally:
        running.stop()
    assert blocks(api, "a") == []


def test_nobody_may_do_anything_with_stars() -> None:
    for account in ("l3net-agent", "l3net-controller"):
        for grant in grants(account):
            assert "*" not in grant
            if grant[2] == "secrets":
                assert grant[4], "secrets by name only"
