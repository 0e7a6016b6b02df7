"""Pods, NetworkPolicies and ClusterNetworkPolicies as facts: defaults, what is wrong, what is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml
from mutations import replaced

from l3net.errors import ManifestError
from l3net.kube.schema import definition, schema, validate
from l3net.kube.translate import translate
from l3net.model import (
    EVERYTHING,
    IpBlock,
    IpPool,
    Kind,
    Namespace,
    NodeSelection,
    ObjectName,
    Pod,
    PodPort,
    PodSelection,
    Policy,
    PolicyPort,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)

ACCEPT_ALL = PolicyRule(Rule.ACCEPT)
APP = Selector((Requirement("app", "In", ("web",)),))


def fact(document: dict[str, Any], noted: list[ManifestError] | None = None) -> Any:
    found = translate(document, noted)
    assert found is not None
    return found[2]


def policy(spec: str, noted: list[ManifestError] | None = None, **annotations: str) -> Policy:
    """A NetworkPolicy of the namespace `shop`."""
    found = fact(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "shop", "annotations": annotations},
            "spec": yaml.safe_load(spec),
        },
        noted,
    )
    assert isinstance(found, Policy)
    return found


def cluster(rest: str, noted: list[ManifestError] | None = None) -> Policy:
    """A ClusterNetworkPolicy for every pod."""
    found = fact(
        {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "p"},
            "spec": {"tier": "Admin", "priority": 5, "subject": {"namespaces": {}}, **yaml.safe_load(rest)},
        },
        noted,
    )
    assert isinstance(found, Policy)
    return found


# --- NetworkPolicy -----------------------------------------------------------------------------------------


def test_its_subject() -> None:
    found = policy("{podSelector: {matchLabels: {app: web}}}", **{"l3net.io/log-drops": "true"})
    assert found == Policy(
        ObjectName("shop", "p"), Tier.NETWORK_POLICY, PodSelection("shop", APP), ingress=(), log_drops=True
    )
    assert policy("{podSelector: {}}").subject == PodSelection("shop", EVERYTHING)
    assert policy("{}").subject == PodSelection("shop", EVERYTHING)
    assert not policy("{}", **{"l3net.io/log-drops": "false"}).log_drops


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ("{}", (), None),
        ("{policyTypes: []}", (), None),
        ("{egress: []}", (), None),
        ("{egress: [{}]}", (), (ACCEPT_ALL,)),
        ("{policyTypes: [Ingress], egress: [{}]}", (), None),
        ("{policyTypes: [Egress]}", None, ()),
        ("{policyTypes: [Egress], ingress: [{}]}", None, ()),
        ("{policyTypes: [Ingress, Egress]}", (), ()),
        ("{ingress: [{}]}", (ACCEPT_ALL,), None),
    ],
)
def test_the_directions_it_speaks_of(spec: str, ingress: object, egress: object) -> None:
    found = policy(spec)
    assert (found.ingress, found.egress) == (ingress, egress)


@pytest.mark.parametrize(
    ("peers", "meant"),
    [
        ("null", None),
        ("[]", None),
        ("[{podSelector: {}}]", (PodSelection("shop"),)),
        ("[{podSelector: {matchLabels: {app: web}}}]", (PodSelection("shop", APP),)),
        ("[{namespaceSelector: {}}]", (PodSelection(EVERYTHING),)),
        (
            "[{namespaceSelector: {matchLabels: {app: web}}, podSelector: {}}]",
            (PodSelection(APP, EVERYTHING),),
        ),
        (
            "[{namespaceSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {app: web}}}]",
            (PodSelection(APP), PodSelection("shop", APP)),
        ),
        (
            "[{ipBlock: {cidr: 'fd00::5/8', except: ['fd01::/16']}}]",
            (IpBlock(ip_network("fd00::/8"), (ip_network("fd01::/16"),)),),
        ),
        ("[{ipBlock: {cidr: 010.000.0.9/08}}]", (IpBlock(ip_network("10.0.0.0/8")),)),
    ],
)
def test_its_peers(peers: str, meant: object) -> None:
    [rule] = policy(f"{{ingress: [{{from: {peers}}}]}}").ingress or ()
    assert rule.peers == meant
    [rule] = policy(f"{{policyTypes: [Egress], egress: [{{to: {peers}}}]}}").egress or ()
    assert rule.peers == meant


@pytest.mark.parametrize(
    ("ports", "meant"),
    [
        ("null", None),
        ("[]", None),
        ("[{}]", (PolicyPort("tcp"),)),
        ("[{protocol: SCTP}]", (PolicyPort("sctp"),)),
        ("[{port: 80}]", (PolicyPort("tcp", 80, 80),)),
        ("[{port: 80, endPort: 90, protocol: UDP}]", (PolicyPort("udp", 80, 90),)),
        ("[{port: 80, endPort: 80}]", (PolicyPort("tcp", 80, 80),)),
        ("[{port: http}]", (PolicyPort("tcp", name="http"),)),
    ],
)
def test_its_ports(ports: str, meant: object) -> None:
    [rule] = policy(f"{{ingress: [{{ports: {ports}}}]}}").ingress or ()
    assert rule.ports == meant


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{policyTypes: [Both]}", "spec.policyTypes[0]"),
        ("{podSelector: {matchLabel: {a: b}}}", "spec.podSelector"),
        ("{podSelector: {matchExpressions: [{key: a, operator: Is}]}}", "spec.podSelector"),
        ("{ingress: {}}", "spec.ingress"),
        ("{ingress: [{from: {}}]}", "spec.ingress[0].from"),
        ("{ingress: [null]}", "spec.ingress[0]"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}", "ipBlock.cidr"),
        ("{ingress: [{from: [{ipBlock: {except: [10.0.0.0/8]}}]}]}", "ipBlock.cidr"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}", "except[0]"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}", "except[0]"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}}]}]}", "except[0]"),
        ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}", "ipBlock"),
        ("{ingress: [{ports: [{port: 0}]}]}", "ports[0].port"),
        ("{ingress: [{ports: [{port: '80'}]}]}", "ports[0].port"),
        ("{ingress: [{ports: [{port: Http}]}]}", "ports[0].port"),
        ("{ingress: [{ports: [{port: 80, endPort: 79}]}]}", "ports[0].endPort"),
        ("{ingress: [{ports: [{port: http, endPort: 79}]}]}", "ports[0].endPort"),
        ("{ingress: [{ports: [{endPort: 79}]}]}", "ports[0].endPort"),
        ("{ingress: [{ports: [{protocol: ICMP}]}]}", "ports[0].protocol"),
    ],
)
def test_one_that_is_wrong_is_refused_whole(spec: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        policy(spec, [])
    assert field in caught.value.field


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("{from: [{}]}", PolicyRule(Rule.ACCEPT, ())),
        ("{from: [{}, {podSelector: {}}]}", PolicyRule(Rule.ACCEPT, (PodSelection("shop"),))),
        ("{from: [{serviceAccounts: {}}]}", PolicyRule(Rule.ACCEPT, ())),
        ("{from: [{podSelector: {}, serviceAccounts: {}}]}", PolicyRule(Rule.ACCEPT, ())),
        ("{from: [{podSelector: {matchLabel: {a: b}}}]}", PolicyRule(Rule.ACCEPT, ())),
        ("{ports: [{port: 80, sourcePort: 9}]}", PolicyRule(Rule.ACCEPT, None, ())),
        ("{form: [{podSelector: {}}]}", None),
    ],
)
def test_what_is_not_understood_lets_nothing_in(rule: str, left: PolicyRule | None) -> None:
    noted: list[ManifestError] = []
    found = policy(f"{{ingress: [{rule}]}}", noted)
    assert found.ingress == ((left,) if left is not None else ())
    assert len(noted) == 1
    with pytest.raises(ManifestError):
        policy(f"{{ingress: [{rule}]}}")


def test_an_annotation_that_is_wrong_is_noted() -> None:
    noted: list[ManifestError] = []
    assert not policy("{}", noted, **{"l3net.io/log-drops": "yes"}).log_drops
    assert "log-drops" in noted[0].field


# --- ClusterNetworkPolicy ----------------------------------------------------------------------------------


def test_its_place_and_subject() -> None:
    found = cluster("{}")
    assert (found.tier, found.priority, found.subject) == (Tier.ADMIN, 5, PodSelection(EVERYTHING))
    assert (found.ingress, found.egress) == (None, None)
    found = cluster("{tier: Baseline, priority: 1000, ingress: [], subject: {pods: {podSelector: {}}}}")
    assert (found.tier, found.priority, found.ingress) == (Tier.BASELINE, 1000, None)
    found = cluster("{subject: {pods: {namespaceSelector: {matchLabels: {app: web}}, podSelector: {}}}}")
    assert found.subject == PodSelection(APP, EVERYTHING)


def test_its_rules() -> None:
    found = cluster("""
        ingress:
        - {action: Pass, name: first, from: [{namespaces: {matchLabels: {app: web}}}]}
        - action: Deny
          from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]
          protocols: [{tcp: {destinationPort: {number: 80}}}, {destinationNamedPort: http}]
        egress:
        - action: Accept
          to: [{networks: [10.0.0.0/8, "fd00::/8"]}, {nodes: {}}]
          protocols: [{udp: {destinationPort: {range: {start: 5, end: 9}}}}]
    """)
    assert found.ingress == (
        PolicyRule(Rule.PASS, (PodSelection(APP),), None, "first"),
        PolicyRule(
            Rule.DENY,
            (PodSelection(EVERYTHING, APP),),
            (PolicyPort("tcp", 80, 80), PolicyPort("", name="http")),
        ),
    )
    blocks = (IpBlock(ip_network("10.0.0.0/8")), IpBlock(ip_network("fd00::/8")))
    assert found.egress == (
        PolicyRule(Rule.ACCEPT, (*blocks, NodeSelection(EVERYTHING)), (PolicyPort("udp", 5, 9),)),
    )


#: Peers and ports of another release.
STRANGE = [
    ("to: [{domainNames: [example.org]}, {namespaces: {}}]", (PodSelection(EVERYTHING),), None),
    ("to: [{}]", (), None),
    ("to: [{namespaces: {}, x: {}}]", (), None),
    ("to: [{namespaces: {x: {}}}]", (), None),
    ("to: [{namespaces: {}}], protocols: [{icmp: {}}]", (PodSelection(EVERYTHING),), ()),
    (
        "to: [{namespaces: {}}], protocols: [{tcp: {sourcePort: {number: 1}}}]",
        (PodSelection(EVERYTHING),),
        (),
    ),
]


@pytest.mark.parametrize(("rule", "peers", "ports"), STRANGE)
def test_what_is_not_understood_fails_closed(rule: str, peers: object, ports: object) -> None:
    """clusternetworkpolicy_types.go: an Accept matches nothing by it, a Deny or Pass denies all."""
    noted: list[ManifestError] = []
    assert cluster(f"egress: [{{action: Accept, {rule}}}]", noted).egress == (
        PolicyRule(Rule.ACCEPT, peers, ports),  # type: ignore[arg-type]
    )
    assert len(noted) == 1
    for action in ("Deny", "Pass"):
        found = cluster(f"egress: [{{action: {action}, {rule}}}]", noted).egress
        assert found == (PolicyRule(Rule.DENY, None, None),)
    assert len(noted) == 3


def test_networks_are_no_peers_of_ingress() -> None:
    noted: list[ManifestError] = []
    found = cluster("ingress: [{action: Accept, from: [{networks: [10.0.0.0/8]}]}]", noted)
    assert found.ingress == (PolicyRule(Rule.ACCEPT, ()),)
    assert noted


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{tier: NetworkPolicy}", "spec.tier"),
        ("{tier: null}", "spec.tier"),
        ("{priority: 1001}", "spec.priority"),
        ("{priority: null}", "spec.priority"),
        ("{subject: {}}", "spec.subject"),
        ("{subject: {namespaces: {}, pods: {}}}", "spec.subject"),
        ("{subject: {namespaces: {matchLabel: {}}}}", "spec.subject.namespaces"),
        ("{ingress: [{action: Allow, from: [{namespaces: {}}]}]}", "ingress[0].action"),
        ("{ingress: [{action: Deny, from: []}]}", "ingress[0].from"),
        ("{ingress: [{action: Deny}]}", "ingress[0].from"),
        ("{ingress: [{action: Deny, from: [{namespaces: {}}], protocols: []}]}", "ingress[0].protocols"),
        ("{egress: [{action: Deny, to: [{networks: [10.0.0.0]}]}]}", "networks[0]"),
        ("{egress: [{action: Deny, to: [{networks: []}]}]}", "networks"),
        (
            "{egress: [{action: Deny, to: [{nodes: {}}], "
            "protocols: [{tcp: {destinationPort: {range: {start: 9, end: 9}}}}]}]}",
            "range.end",
        ),
        (
            "{egress: [{action: Deny, to: [{nodes: {}}], protocols: [{tcp: {destinationPort: {}}}]}]}",
            "destinationPort",
        ),
    ],
)
def test_a_cluster_policy_that_is_wrong_is_refused_whole(spec: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        cluster(spec, [])
    assert field in caught.value.field


@pytest.mark.parametrize(
    ("many", "field"),
    [
        ({"ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}, "ingress"),
        ({"egress": [{"action": "Deny", "to": [{"namespaces": {}}]}]}, "egress"),
    ],
)
def test_the_bounds_of_the_api_are_held(many: dict[str, list[Any]], field: str) -> None:
    good = yaml.safe_dump({field: many[field] * 25})
    assert len(getattr(cluster(good), field)) == 25
    with pytest.raises(ManifestError, match="entries"):
        cluster(yaml.safe_dump({field: many[field] * 26}))


CRD = Kind.CLUSTER_NETWORK_POLICY


def below(found: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, found
    for name, each in found.get("properties", {}).items():
        yield from below(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in found:
            yield from below(found[name], f"{path}.{name}")


def test_the_crd_is_one_that_an_api_server_takes() -> None:
    annotations = definition(CRD)["metadata"]["annotations"]
    assert "api-approved.kubernetes.io" in annotations, "asked for of Kubernetes' groups (KEP-1111)"
    assert definition(CRD)["metadata"]["name"] == "clusternetworkpolicies.policy.networking.k8s.io"
    for path, found in below(schema(CRD)):
        assert "type" in found, path
        assert not ("properties" in found and "additionalProperties" in found), path
        if path.startswith((".spec", ".status")) and not path.endswith((".items", ".additionalProperties")):
            assert found.get("description"), path


GOOD = {
    "apiVersion": "policy.networking.k8s.io/v1alpha2",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "p"},
    "spec": {
        "tier": "Admin",
        "priority": 0,
        "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}},
        "ingress": [
            {
                "action": "Deny",
                "name": "x",
                "from": [{"namespaces": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}],
                "protocols": [{"tcp": {"destinationPort": {"number": 1}}}, {"destinationNamedPort": "http"}],
            }
        ],
        "egress": [
            {
                "action": "Pass",
                "to": [{"networks": ["10.0.0.0/8", "fd00::/8"]}, {"nodes": {}}],
                "protocols": [{"sctp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}}],
            }
        ],
    },
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tier",), "NetworkPolicy"),
        (("priority",), 1001),
        (("priority",), -1),
        (("subject",), {}),
        (("subject",), {"namespaces": {}, "pods": {"podSelector": {}}}),
        (("ingress",), GOOD["spec"]["ingress"] * 26),  # type: ignore[index]
        (("ingress", 0, "action"), "Allow"),
        (("ingress", 0, "name"), "x" * 101),
        (("ingress", 0, "from"), []),
        (("ingress", 0, "from"), [{"namespaces": {}}] * 26),
        (("ingress", 0, "protocols"), []),
        (("ingress", 0, "protocols", 0, "tcp", "destinationPort", "number"), 0),
        (("egress", 0, "to", 0, "networks"), []),
        (("egress", 0, "to", 0, "networks"), [f"10.{each}.0.0/16" for each in range(26)]),
        (("egress", 0, "protocols", 0, "sctp", "destinationPort"), {}),
        (("egress", 0, "protocols", 0, "sctp", "destinationPort", "range", "end"), 65536),
    ],
)
def test_the_crd_refuses_what_is_refused_here(path: tuple[Any, ...], value: Any) -> None:
    validate(CRD, GOOD)
    assert translate(GOOD) is not None
    bad = replaced(GOOD, ("spec", *path), value)
    with pytest.raises(ManifestError):
        validate(CRD, bad)
    with pytest.raises(ManifestError):
        translate(bad, [])


# --- Pods --------------------------------------------------------------------------------------------------

POD = yaml.safe_load("""
    apiVersion: v1
    kind: Pod
    metadata: {name: p, namespace: shop, uid: u1, labels: {app: web}}
    spec:
      nodeName: n1
      containers:
      - ports: [{name: http, containerPort: 80}, {containerPort: 81}]
      - ports: [{name: dns, containerPort: 53, protocol: UDP}]
      initContainers:
      - ports: [{name: setup, containerPort: 1}]
      - restartPolicy: Always
        ports: [{name: proxy, containerPort: 15001, protocol: SCTP}]
    status: {phase: Running, podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}, {ip: "fd00::5"}]}
""")


def pod(**changes: Any) -> dict[str, Any]:
    return {**POD, **{key: {**POD[key], **value} for key, value in changes.items()}}


def test_a_pod() -> None:
    assert fact(POD) == Pod(
        ObjectName("shop", "p"),
        {"app": "web"},
        (ip_address("10.1.0.5"), ip_address("fd00::5")),
        "n1",
        ports=(PodPort("http", "tcp", 80), PodPort("dns", "udp", 53), PodPort("proxy", "sctp", 15001)),
        uids=("u1",),
    )
    assert fact(pod(status={"podIPs": None})).addresses == (ip_address("10.1.0.5"),)
    assert fact(pod(status={"podIPs": None, "podIP": ""})).addresses == ()
    assert fact(pod(spec={"hostNetwork": True})).host_network
    assert not fact(pod(spec={"nodeName": None})).node
    for phase, finished in (("Succeeded", True), ("Failed", True), ("Pending", False), ("Unknown", False)):
        assert fact(pod(status={"phase": phase})).finished is finished


def test_a_static_pod_has_two_uids() -> None:
    assert fact(pod(metadata={"annotations": {"kubernetes.io/config.hash": "h1"}})).uids == ("u1", "h1")


def test_allowed_addresses() -> None:
    annotations = {"l3net.io/allowed-addresses": "192.0.2.9, fd00::/64,192.0.2.9,"}
    noted: list[ManifestError] = []
    meant = (ip_network("192.0.2.9/32"), ip_network("fd00::/64"))
    assert fact(pod(metadata={"annotations": annotations}), noted).allowed_sources == meant
    assert len(noted) == 1, "the empty one"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": annotations}}
    found = fact(space, noted)
    assert isinstance(found, Namespace)
    assert found.allowed_sources == meant
    pool = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": "p"},
        "spec": {"cidr": "10.0.0.0/16", "allowedAddresses": ["192.0.2.9/32", "fd00::/64"]},
    }
    found = fact(pool)
    assert isinstance(found, IpPool)
    assert found.allowed_sources == meant


def test_one_bad_element_costs_no_pod() -> None:
    noted: list[ManifestError] = []
    found = fact(
        pod(
            status={"podIPs": [{"ip": "10.1.0.5"}, {"ip": "no"}]},
            spec={
                "containers": [
                    {"ports": [{"name": "a", "containerPort": 0}, {"name": "b", "containerPort": 2}]}
                ]
            },
            metadata={"annotations": {"l3net.io/allowed-addresses": "192.0.2.1/24,192.0.2.7"}},
        ),
        noted,
    )
    assert found.addresses == (ip_address("10.1.0.5"),)
    assert found.ports[0] == PodPort("b", "tcp", 2)
    assert found.allowed_sources == (ip_network("192.0.2.7/32"),)
    assert len(noted) == 3


def test_equal_labels_and_ports_are_one_value() -> None:
    one, other = fact(POD), fact(pod(metadata={"name": "q"}))
    assert one.labels is other.labels
    assert one.ports is other.ports
    assert fact(pod(metadata={"labels": {"app": "x"}})).labels == {"app": "x"}
