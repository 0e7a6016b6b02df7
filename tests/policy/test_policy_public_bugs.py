"""What implementations of network policies were reported to get wrong, as far as a verdict can say it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest
from policy_facts import read
from truth import ADDRESSES, Document, World, labels, net_policy

from l3net.model import ClusterState
from l3net.policy.known_state import KnownState
from l3net.policy.verdict import Packet, verdict

WORLD = World()
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
B = {"podSelector": labels(pod="b")}
NODE = {"n1": ADDRESSES["forest/p0"], "n2": ADDRESSES["forest/p1"]}


def state(*policies: Document, others: Iterable[Document] = ()) -> ClusterState:
    return read([*WORLD.step("", *policies).documents, *others])


def passes(
    there: ClusterState, source: Any, destination: Any, to: str = "80/tcp", *, from_node: bool = False
) -> bool:
    port, protocol = to.split("/")
    packet = Packet(ip_address(source), ip_address(destination), protocol, int(port), from_node=from_node)
    return verdict(KnownState(there), packet).allowed


def between(
    family: int, source: str, destination: str, *policies: Document, to: str = "80/tcp", **more: Any
) -> bool:
    there = state(*policies, **more)
    return passes(there, ADDRESSES[source][family], ADDRESSES[destination][family], to)


def into_a(*rules: Document) -> Document:
    return net_policy("x", "into-a", labels(pod="a"), ingress=rules)


def out_of_a(*rules: Document) -> Document:
    return net_policy("x", "out-of-a", labels(pod="a"), egress=rules)


@FAMILIES
@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_address_of_a_completed_pod_is_another_pods(family: int, phase: str) -> None:
    """kube-router 1056, antrea 6507: policies went on to count the old pod."""
    old = WORLD.pod("x/b", labels={"pod": "a", "friend": "yes"})
    old["metadata"]["name"] = "aaa-job"  # first by name, and last that was read
    old["status"]["podIPs"] = WORLD.pod("y/a")["status"]["podIPs"]
    policies = [net_policy("x", "closed", labels(pod="a"), ingress=[], egress=[])]
    policies.append(
        net_policy("x", "b", labels(pod="b"), ingress=[{"from": [{"podSelector": labels(friend="yes")}]}])
    )
    for now, subject in (("Running", True), (phase, False)):
        old["status"]["phase"] = now
        assert between(family, "z/a", "y/a", *policies, others=[old]) is not subject
        assert between(family, "y/a", "x/b", policies[1], others=[old]) is subject, "as a peer"


@FAMILIES
def test_a_named_port_is_each_pods_own(family: int) -> None:
    """cilium 30003: of pods that one selector chooses, the number of one was taken for all."""
    other = WORLD.pod("y/b")
    (web,) = [each for each in other["spec"]["containers"][0]["ports"] if each.get("name") == "serve-80-tcp"]
    web["containerPort"] = 8080
    out = out_of_a({"to": [{"namespaceSelector": labels(ns="y")}], "ports": [{"port": "serve-80-tcp"}]})
    into = net_policy("y", "in", {}, ingress=[{"ports": [{"port": "serve-80-tcp"}]}])
    for policy in (out, into):
        there = state(policy, others=[other])
        source = ADDRESSES["x/a"][family]
        for name, number, allowed in (
            ("y/a", 80, True),
            ("y/a", 8080, False),
            ("y/b", 80, False),
            ("y/b", 8080, True),
        ):
            assert passes(there, source, ADDRESSES[name][family], f"{number}/tcp") is allowed


@FAMILIES
def test_rules_are_for_pods_and_target_ports(family: int) -> None:
    """aws network-policy-controller 210: rules were held against the ClusterIP. A packet is judged behind the
    translation; a block of service addresses opens nothing."""
    services = [{"ipBlock": {"cidr": each}} for each in ("10.96.0.0/12", "fd00:10:96::/108")]
    assert not between(family, "x/a", "y/a", out_of_a({"to": services}))
    to_pods = {"to": [{"namespaceSelector": labels(ns="y")}], "ports": [{"port": 81}]}
    assert between(family, "x/a", "y/a", out_of_a(to_pods), to="81/tcp")
    assert not between(family, "x/a", "y/a", out_of_a(to_pods), to="80/tcp")


@FAMILIES
def test_an_exception_leaves_out_those_in_it_alone(family: int) -> None:
    wide, hole = WORLD.blocks("x/b", 8, 16), WORLD.blocks("x/b")
    peers = [{"ipBlock": {"cidr": c, "except": [e]}} for c, e in zip(wide, hole, strict=True)]
    assert [between(family, "x/a", each, out_of_a({"to": peers})) for each in ("x/b", "x/c")] == [False, True]


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@FAMILIES
def test_a_range_has_both_its_ends(family: int, protocol: str) -> None:
    rule = {"ports": [{"protocol": protocol.upper(), "port": 9000, "endPort": 9005}]}
    found = [
        between(family, "x/b", "x/a", into_a(rule), to=f"{port}/{protocol}")
        for port in (8999, 9000, 9003, 9005, 9006)
    ]
    assert found == [False, True, True, True, False]
    others = {"tcp", "udp", "sctp"} - {protocol}
    assert not any(between(family, "x/b", "x/a", into_a(rule), to=f"9003/{each}") for each in others)


def test_both_families_in_one_policy() -> None:
    """A block of one family says nothing of the other, which stays closed."""
    four, six = ({"ipBlock": {"cidr": each}} for each in WORLD.blocks("x/b"))
    found = [
        [between(family, "x/b", "x/a", into_a({"from": peers})) for family in (0, 1)]
        for peers in ([four], [six], [four, six])
    ]
    assert found == [[True, False], [False, True], [True, True]]


@FAMILIES
def test_no_peers_are_everybody_and_an_empty_selector_is_the_namespace(family: int) -> None:
    outside = ("203.0.113.9", "2001:db8:9::9")[family]
    rows: list[tuple[Document, list[bool]]] = [
        ({"from": []}, [True, True, True]),
        ({}, [True, True, True]),
        ({"from": [{"podSelector": {}}]}, [True, False, False]),
        ({"from": [{"namespaceSelector": {}}]}, [True, True, False]),
        ({"from": [{"podSelector": {}, "namespaceSelector": {}}]}, [True, True, False]),
    ]
    for rule, wanted in rows:
        there = state(into_a(rule))
        own, other = (ADDRESSES[name][family] for name in ("x/b", "y/b"))
        target = ADDRESSES["x/a"][family]
        assert [passes(there, each, target) for each in (own, other, outside)] == wanted, rule


@FAMILIES
def test_selectors_of_one_peer_must_both_match_and_of_two_either(family: int) -> None:
    both = {"from": [{**B, "namespaceSelector": labels(ns="y")}]}
    either = {"from": [B, {"namespaceSelector": labels(ns="y")}]}
    names = ("x/b", "x/c", "y/b", "y/c", "z/b")
    found = [[between(family, name, "x/a", into_a(rule)) for name in names] for rule in (both, either)]
    assert found == [[False, False, True, False, False], [True, False, True, True, False]]


@FAMILIES
def test_a_direction_without_rules_is_closed(family: int) -> None:
    policy = out_of_a()
    del policy["spec"]["egress"]
    assert policy["spec"]["policyTypes"] == ["Egress"]
    assert not between(family, "x/a", "x/b", policy)
    assert between(family, "x/b", "x/a", policy)


@FAMILIES
def test_a_node_reaches_its_pods_and_no_others_by_that(family: int) -> None:
    """kubelet's probes pass whatever a policy says; another node is an address like any other."""
    there = state(into_a())
    target = ADDRESSES["x/a"][family]
    assert passes(there, NODE["n1"][family], target, from_node=True)
    assert not passes(there, NODE["n2"][family], target)
    block = {"from": [{"ipBlock": {"cidr": each}} for each in WORLD.blocks("forest/p1")]}
    assert passes(state(into_a(block)), NODE["n2"][family], target)


@FAMILIES
def test_pods_on_the_hosts_network_are_no_subjects_and_no_peers(family: int) -> None:
    closed = net_policy("forest", "closed", {}, ingress=[], egress=[])
    assert between(family, "forest/p0", "x/a", closed) and between(family, "x/a", "forest/p0", closed)
    by_label = into_a({"from": [{"namespaceSelector": labels(house="forest")}]})
    assert not between(family, "forest/p1", "x/a", by_label)


@FAMILIES
def test_a_pod_reaches_itself_also_by_its_own_service(family: int) -> None:
    """Behind the service it is itself; where that took a masquerade, it is its node's gateway."""
    closed = net_policy("x", "closed", {}, ingress=[], egress=[])
    assert between(family, "x/a", "x/a", closed)
    gateway = ("10.244.1.1", "fd00:244:1::1")[family]
    assert passes(state(closed), gateway, ADDRESSES["x/a"][family], from_node=True)


@FAMILIES
def test_what_another_node_masqueraded_is_that_node(family: int) -> None:
    """externalTrafficPolicy Cluster: a block of clients does not match, a block of nodes does."""
    clients = into_a(
        {"from": [{"ipBlock": {"cidr": each}} for each in ("203.0.113.0/24", "2001:db8:9::/48")]}
    )
    client = ("203.0.113.9", "2001:db8:9::9")[family]
    target = ADDRESSES["x/a"][family]
    assert passes(state(clients), client, target)
    assert not passes(state(clients), NODE["n2"][family], target)


@FAMILIES
def test_a_terminating_pod_keeps_its_rules(family: int) -> None:
    ending = WORLD.pod("x/a")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not between(family, "x/b", "x/a", into_a(), others=[ending])
    peer = net_policy("y", "from-x-a", {}, ingress=[{"from": [{"namespaceSelector": labels(ns="x")}]}])
    assert between(family, "x/a", "y/a", peer, others=[ending])


@FAMILIES
def test_labels_that_come_later_count_from_then_on(family: int) -> None:
    rule = into_a({"from": [{"podSelector": labels(role="client")}]})
    assert not between(family, "x/b", "x/a", rule)
    assert between(family, "x/b", "x/a", rule, others=[WORLD.pod("x/b", labels={"role": "client"})])
    isolated = net_policy("x", "isolated", labels(role="vault"), ingress=[])
    assert between(family, "x/b", "x/a", isolated)
    changed = WORLD.pod("x/a", labels={"role": "vault"})
    assert not between(family, "x/b", "x/a", isolated, others=[changed])


@FAMILIES
def test_a_pod_that_has_no_address_yet_is_nobody(family: int) -> None:
    """And one whose address nobody has told is an address like any other: closed to what asks for labels."""
    fresh = WORLD.pod("x/b")
    fresh["status"] = {"phase": "Pending"}
    rule = into_a({"from": [B]})
    assert between(family, "x/b", "x/a", rule)
    assert not between(family, "x/b", "x/a", rule, others=[fresh])
