"""Tenants are kept apart by policies that can be read, and any policy is shown as its manifest."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
import yaml
from policy_facts import read

from l3net.errors import ManifestError
from l3net.kube.translate import translate
from l3net.model import (
    ClusterState,
    IpBlock,
    Namespace,
    NodeSelection,
    ObjectName,
    Pod,
    PodSelection,
    Policy,
    PolicyPort,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.naming import LABEL_TENANT
from l3net.policy.known_state import KnownState
from l3net.policy.manifest import manifest
from l3net.policy.tenants import PRIORITY, tenant_policies
from l3net.policy.verdict import Packet, verdict

TENANTS = {"red": "red", "red-2": "red", "blue": "Blue_1", "empty": "", "shared": None, "shared-2": None}


def state(*policies: Policy) -> ClusterState:
    found = ClusterState()
    for number, (name, tenant) in enumerate(TENANTS.items(), 1):
        labels = {} if tenant is None else {LABEL_TENANT: tenant}
        found.namespaces[name] = Namespace(name, labels)
        addresses = (ip_address(f"10.244.0.{number}"), ip_address(f"fd00:244::{number}"))
        found.pods[ObjectName(name, "p")] = Pod(ObjectName(name, "p"), {}, addresses)
    found.cluster_policies = {each.name.name: each for each in policies}
    return found


def reached(known: KnownState, there: ClusterState, family: int) -> set[tuple[str, str]]:
    return {
        (one.name.namespace, two.name.namespace)
        for one in there.pods.values()
        for two in there.pods.values()
        if verdict(known, Packet(one.addresses[family], two.addresses[family], "tcp", 80)).allowed
    }


@pytest.mark.parametrize("family", [0, 1])
def test_tenants_reach_their_own_and_what_is_shared(family: int) -> None:
    there = state()
    known = KnownState(there, tenant_policies(there.namespaces.values()))
    assert reached(known, there, family) == {
        (one, two)
        for one, mine in TENANTS.items()
        for two, theirs in TENANTS.items()
        if mine is None or theirs is None or mine == theirs
    }
    assert len(reached(KnownState(there), there, family)) == len(TENANTS) ** 2, "the control"


def test_each_tenant_has_one_policy_and_no_declared_one_can_be_called_so() -> None:
    found = tenant_policies(state().namespaces.values())
    assert [each.name.name for each in found] == ["l3net:tenant:", "l3net:tenant:Blue_1", "l3net:tenant:red"]
    assert {(each.tier, each.priority) for each in found} == {(Tier.ADMIN, PRIORITY)}
    with pytest.raises(ManifestError, match="name"):
        translate(manifest(found[-1]))
    assert tenant_policies([Namespace("x", {"other": "label"})]) == ()


def test_an_administrator_may_let_tenants_meet() -> None:
    both = PodSelection(Selector((Requirement(LABEL_TENANT, "In", ("Blue_1", "red")),)))
    accept = (PolicyRule(Rule.ACCEPT, (both,)),)
    opened = Policy(ObjectName("", "meet"), Tier.ADMIN, both, accept, accept, PRIORITY - 1)
    there = state(opened)
    found = reached(KnownState(there, tenant_policies(there.namespaces.values())), there, 0)
    assert ("red", "blue") in found and ("blue", "red-2") in found and ("red", "empty") not in found


def test_what_isolates_a_tenant_can_be_read() -> None:
    policy = tenant_policies([Namespace("x", {LABEL_TENANT: "red"})])[0]
    assert yaml.safe_dump(manifest(policy), sort_keys=False) == (
        """\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata:
  name: l3net:tenant:red
spec:
  tier: Admin
  priority: 1000
  subject:
    namespaces:
      matchLabels:
        l3net.io/tenant: red
  ingress:
  - name: other tenants
    action: Deny
    from:
    - namespaces:
        matchExpressions:
        - key: l3net.io/tenant
          operator: Exists
        - key: l3net.io/tenant
          operator: NotIn
          values:
          - red
  egress:
  - name: other tenants
    action: Deny
    to:
    - namespaces:
        matchExpressions:
        - key: l3net.io/tenant
          operator: Exists
        - key: l3net.io/tenant
          operator: NotIn
          values:
          - red
"""
    )


def test_it_does_the_same_when_it_is_declared() -> None:
    there = state()
    derived = tenant_policies(there.namespaces.values())
    documents = [manifest(each) for each in derived]
    for number, each in enumerate(documents):
        each["metadata"] = {"name": f"declared-{number}"}
    there.cluster_policies = read(documents).cluster_policies
    assert len(there.cluster_policies) == 3
    assert reached(KnownState(there), there, 0) == reached(KnownState(state(), derived), there, 0)


def test_a_network_policy_as_people_write_it() -> None:
    rules = (
        PolicyRule(
            Rule.ACCEPT,
            (
                PodSelection("x", Selector((Requirement("app", "In", ("a",)),))),
                PodSelection(Selector()),
                IpBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
            ),
            (
                PolicyPort("tcp", 80, 80),
                PolicyPort("udp", 53, 60),
                PolicyPort("sctp"),
                PolicyPort("tcp", name="web"),
            ),
        ),
        PolicyRule(Rule.ACCEPT),
    )
    name = ObjectName("x", "p")
    policy = Policy(name, Tier.NETWORK_POLICY, PodSelection("x"), rules, (), log_drops=True)
    assert manifest(policy) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "x", "annotations": {"l3net.io/log-drops": "true"}},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"app": "a"}}},
                        {"namespaceSelector": {}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [
                        {"protocol": "TCP", "port": 80},
                        {"protocol": "UDP", "port": 53, "endPort": 60},
                        {"protocol": "SCTP"},
                        {"protocol": "TCP", "port": "web"},
                    ],
                },
                {},
            ],
            "egress": [],
        },
    }
    assert read([manifest(policy)]).policies == {name: policy}


@pytest.mark.parametrize("tier", list(Tier))
def test_what_names_nobody_does_not_become_everybody(tier: Tier) -> None:
    """Peers and ports of which nothing was understood: the reader leaves them out, and says so again."""
    network = tier is Tier.NETWORK_POLICY
    name, subject = ObjectName("x" if network else "", "p"), PodSelection("x" if network else Selector())
    rules: tuple[PolicyRule, ...] = (
        PolicyRule(Rule.ACCEPT, ()),
        PolicyRule(Rule.ACCEPT, (PodSelection(Selector()),), ()),
    )
    if not network:
        rules += (PolicyRule(Rule.DENY),)
    policy = Policy(name, tier, subject, rules, rules, priority=0 if network else 5)
    skipped: list[ManifestError] = []
    found = translate(manifest(policy), skipped)
    assert found is not None and found[2] == policy
    assert skipped


def test_what_a_cluster_policy_cannot_say_is_said_in_other_words() -> None:
    block = IpBlock(ip_network("10.0.0.0/30"), (ip_network("10.0.0.1/32"),))
    rule = PolicyRule(
        Rule.DENY,
        (block, IpBlock(ip_network("fd00::/64")), NodeSelection(Selector()), PodSelection("x")),
        (PolicyPort("tcp"), PolicyPort("tcp", name="web")),
    )
    policy = Policy(ObjectName("", "p"), Tier.ADMIN, PodSelection("x"), egress=(rule,), priority=3)
    spec = manifest(policy)["spec"]
    assert isinstance(spec, dict)
    by_name = {"matchLabels": {"kubernetes.io/metadata.name": "x"}}
    assert spec["subject"] == {"namespaces": by_name}
    assert spec["egress"] == [
        {
            "action": "Deny",
            "to": [
                {"networks": ["10.0.0.0/32", "10.0.0.2/31", "fd00::/64"]},
                {"nodes": {}},
                {"namespaces": by_name},
            ],
            "protocols": [
                {"tcp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}},
                {"destinationNamedPort": "web"},
            ],
        }
    ]
    assert read([manifest(policy)]).cluster_policies
