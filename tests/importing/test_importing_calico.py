"""What Calico's objects come to, and what is told of those that cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from importing import findings, made, outcomes, tell

from l3net.errors import ManifestError
from l3net.importing import calico
from l3net.importing.expressions import selector, union
from l3net.importing.source import Outcome
from l3net.kube.fields import Field
from l3net.model import Requirement, Selector

INPUTS = Path(__file__).with_name("inputs_calico.yaml")


def resource(kind: str, name: str = "one", /, namespace: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def imported(*objects: dict[str, Any]) -> calico.Imported:
    return calico.imported([(each, "test") for each in objects])


def test_a_cluster_is_carried_over() -> None:
    found = tell("calico", INPUTS)
    assert made(found, "BGPConfiguration") == {
        "default": {
            "asNumber": 65001,
            "nodeToNodeMesh": False,
            "import": {"ebgpRequiresPolicy": False},
            "advertise": {
                "podBlocks": True,
                "clusterIPs": {"enabled": False},
                "externalIPs": {"enabled": False},
                "loadBalancerIPs": {"enabled": True, "cidrs": ["203.0.113.0/24", "2001:db8:113::/64"]},
                "networks": ["203.0.113.0/24", "2001:db8:113::/64"],
            },
        }
    }
    assert made(found, "IPPool") == {
        "default-ipv4-ippool": {"cidr": "10.244.0.0/16", "blockSize": 26, "natOutgoing": True},
        "default-ipv6-ippool": {"cidr": "fd00:10:244::/48", "blockSize": 122},
    }
    assert made(found, "BGPPeer") == {
        "tor4": {
            "address": "10.90.0.2",
            "asNumber": 65002,
            "nodeSelector": {"matchLabels": {"rack": "a"}},
            "gracefulRestart": {"restartTime": 120},
            "filters": ["calico-communities"],
        },
        "tor6": {
            "address": "fd90::2",
            "asNumber": 65002,
            "nodes": ["node"],
            "filters": ["longer", "calico-communities"],
        },
    }
    filters = made(found, "BGPFilter")
    assert filters["longer"] == {
        "export": [
            {
                "action": "Accept",
                "cidr": "fd00:10:244::/48",
                "prefixLength": {"min": 64},
                "operations": {"addCommunities": ["65001:7"], "prependASPath": [65001, 65009]},
            },
            {"action": "Reject", "cidr": "2001:db8:113::/64", "matchOperator": "Equal"},
        ],
        "import": [{"action": "Reject", "cidr": "0.0.0.0/0"}],
    }
    assert outcomes(found, Outcome.UNSAID) == []
    assert {each.field for each in findings(found, Outcome.CHANGED)} == {
        "", "spec.logSeverityScreen", "spec.serviceLoadBalancerIPs",
    }  # fmt: skip


def test_what_calico_does_not_announce_unless_told_to() -> None:
    """Addresses of services; of l3net ClusterIPs are announced by default."""
    found = imported(resource("BGPPeer", peerIP="10.0.0.2", asNumber=1))
    configuration = made(found, "BGPConfiguration")["default"]
    kinds = ("clusterIPs", "externalIPs", "loadBalancerIPs")
    assert [configuration["advertise"][kind]["enabled"] for kind in kinds] == [False, False, False]
    assert (configuration["asNumber"], configuration["nodeToNodeMesh"]) == (64512, True)


def test_communities_of_every_range_that_a_prefix_lies_in() -> None:
    spec = {
        "prefixAdvertisements": [
            {"cidr": "10.0.0.0/8", "communities": ["65001:1"]},
            {"cidr": "10.1.0.0/16", "communities": ["65001:2"]},
        ]
    }
    found = imported(resource("BGPConfiguration", "default", **spec))
    rules = found.filters["calico-communities"].exports
    assert [(str(rule.cidr), sorted(map(str, rule.operations.add_communities))) for rule in rules] == [
        ("10.1.0.0/16", ["65001:1", "65001:2"]),
        ("10.0.0.0/8", ["65001:1"]),
    ]


@pytest.mark.parametrize(
    ("peer", "field"),
    [
        ({"numAllowedLocalASNumbers": 1}, "spec.numAllowedLocalASNumbers"),
        ({"ttlSecurity": 3}, "spec.ttlSecurity"),
        ({"reachableBy": "10.0.0.1"}, "spec.reachableBy"),
        ({"nodeSelector": "a == 'x' || b == 'y'"}, "spec.nodeSelector"),
        ({"peerIP": "10.0.0.999"}, "spec.peerIP"),
        ({"asNumber": "many"}, "spec.asNumber"),
        ({"invented": {"deep": 1}}, "spec.invented"),
    ],
)
def test_what_cannot_be_said_of_a_peer_is_told(peer: dict[str, Any], field: str) -> None:
    """And takes nothing else with it."""
    spec = {"peerIP": "10.0.0.2", "asNumber": 65002, **peer}
    found = imported(resource("BGPPeer", **spec), resource("BGPPeer", "two", peerIP="fd00::2", asNumber=1))
    assert [each.field for each in findings(found, Outcome.UNSAID)] == [field]
    assert "two" in found.peers


def test_addresses_ports_and_as_numbers_in_all_their_forms() -> None:
    found = imported(
        resource("BGPPeer", "a", peerIP="10.0.0.2:1790", asNumber="1.10"),
        resource("BGPPeer", "b", peerIP="[fd00::2]:1791", asNumber="65002"),
        resource("BGPPeer", "c", peerIP="fd00::3", asNumber=65003, localASNumber=65004, ttlSecurity=1),
        resource("BGPPeer", "d", peerSelector="role == 'edge'", nodeSelector="has(rack)"),
    )
    peers = found.peers
    assert [(str(peers[name].address), peers[name].port, peers[name].as_number) for name in "abc"] == [
        ("10.0.0.2", 1790, 65546), ("fd00::2", 1791, 65002), ("fd00::3", 179, 65003),
    ]  # fmt: skip
    assert (peers["c"].local_as, peers["c"].gtsm) == (65004, True)
    assert peers["d"].peer_selector == Selector((Requirement("role", "In", ("edge",)),))
    assert peers["d"].node_selector == Selector((Requirement("rack", "Exists"),))


def test_a_password_stays_a_reference() -> None:
    password = {"secretKeyRef": {"name": "bgp", "key": "tor"}}
    peer = resource("BGPPeer", peerIP="10.0.0.2", asNumber=1, password=password)
    config = resource("BGPConfiguration", "default", nodeMeshPassword=password)
    found = calico.imported([(each, "") for each in (peer, config)], "calico-system")
    assert made(found, "BGPPeer")["one"]["password"] == {
        "secretKeyRef": {"name": "bgp", "key": "tor", "namespace": "calico-system"}
    }
    # The mesh of l3net has none: it is a peer of every node with every other.
    assert made(found, "BGPPeer")["calico-node-mesh"]["peerSelector"] == {}
    assert made(found, "BGPConfiguration")["default"]["nodeToNodeMesh"] is False


def test_a_peer_on_no_link_of_the_nodes_is_several_hops_away() -> None:
    notes = {"projectcalico.org/IPv4Address": "10.0.0.1/24", "projectcalico.org/ASNumber": "64600"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": notes}}
    near, far = (resource("BGPPeer", name, peerIP=ip, asNumber=1) for name, ip in
                 (("near", "10.0.0.2"), ("far", "10.9.0.2")))  # fmt: skip
    found = imported(node, near, far)
    assert (found.peers["near"].multihop, found.peers["far"].multihop) == (None, 255)
    assert made(found, "Node") == {"n": None}
    (annotations,) = found.annotations.values()
    assert annotations == {"l3net.io/as-number": "64600"}


def test_a_node_as_calicoctl_tells_it() -> None:
    bgp = {"asNumber": 64600, "ipv4Address": "10.0.0.1/24", "ipv4IPIPTunnelAddr": "10.1.0.1"}
    addresses = [{"address": "10.0.0.1/24"}, {"address": "10.0.0.1"}]
    node = resource("Node", "n", bgp=bgp, addresses=addresses, orchRefs=[{"nodeName": "n"}])
    found = imported(node, resource("BGPPeer", "far", peerIP="10.9.0.2", asNumber=1))
    assert list(found.annotations.values()) == [{"l3net.io/as-number": "64600"}]
    assert found.peers["far"].multihop == 255
    assert outcomes(found, Outcome.UNSAID) == []


def test_nodes_that_reflect_routes() -> None:
    def node(name: str, **notes: str) -> dict[str, Any]:
        labels = {"reflects": "true"} if notes else {}
        metadata = {"name": name, "labels": labels, "annotations": notes}
        return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}

    reflector = node("r", **{"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"})
    peer = resource("BGPPeer", nodeSelector="all()", peerSelector="reflects == 'true'")
    config = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    found = made(imported(config, reflector, node("n"), peer), "BGPConfiguration")["default"]
    assert found["nodeToNodeMesh"] is True
    assert found["topology"] == "RouteReflectors"
    assert found["routeReflector"] == {
        "clusterID": "244.0.0.1", "nodeSelector": {"matchLabels": {"reflects": "true"}},
    }  # fmt: skip


def test_pools() -> None:
    found = imported(
        resource(
            "IPPool", "overlay", cidr="10.1.0.0/16", ipipMode="Always", disableBGPExport=True, disabled=True
        ),
        resource("IPPool", "tunnels", cidr="10.2.0.0/16", allowedUses=["Tunnel"]),
        resource("IPPool", "outside", cidr="203.0.113.0/24", allowedUses=["LoadBalancer"]),
        resource("IPPool", "tiny", cidr="10.3.0.0/16", blockSize=32),
        resource("IPPool", "asked", cidr="10.4.0.0/16", assignmentMode="Manual"),
        resource("IPPool", "a-ns", cidr="fd00::/64", namespaceSelector="projectcalico.org/name == 'x'"),
        resource("IPReservation", "kept", reservedCIDRs=["10.1.0.0/28"]),
    )
    pools = made(found, "IPPool")
    assert sorted(pools) == ["a-ns", "asked", "outside", "overlay"]
    assert pools["overlay"] == {"cidr": "10.1.0.0/16", "blockSize": 26, "disabled": True, "advertise": False}
    assert pools["outside"] == {
        "cidr": "203.0.113.0/24", "avoidBuggyIPs": False, "allowedUses": ["LoadBalancer"],
    }  # fmt: skip
    assert pools["asked"]["disabled"] is True
    assert pools["a-ns"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "x"}}
    assert [(each.kind, each.name) for each in findings(found, Outcome.UNSAID)] == [
        ("IPPool", "overlay"), ("IPPool", "tunnels"), ("IPPool", "asked"), ("IPReservation", "kept"),
        ("IPPool", "tiny"),
    ]  # fmt: skip


def test_rules_of_a_filter_that_look_at_what_there_is_not() -> None:
    rules = [
        {"action": "Reject", "source": "RemotePeers"},
        {"action": "Reject", "interface": "*.calico"},
        {"action": "Accept", "priority": 512},
        {"action": "Accept", "operations": [{"setPriority": {"value": 7}}]},
        {
            "action": "Accept",
            "communities": {"values": ["65001:1"]},
            "asPathPrefix": [65009],
            "peerType": "eBGP",
        },
    ]
    found = imported(resource("BGPFilter", exportV4=rules))
    assert made(found, "BGPFilter")["one"]["export"] == [
        {"action": "Accept", "cidr": "0.0.0.0/0"},
        {
            "action": "Accept", "cidr": "0.0.0.0/0", "peerType": "eBGP", "communities": ["65001:1"],
            "asPathPrefix": [65009],
        },
    ]  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == [
        "spec.exportV4[1]", "spec.exportV4[2]", "spec.exportV4[3].operations[0]",
    ]  # fmt: skip


# --- selectors ---------------------------------------------------------------------------------------------


def read(text: str) -> list[list[tuple[str, str, tuple[str, ...]]]]:
    return [
        [(one.key, one.operator, one.values) for one in each.requirements] for each in union(Field("s", text))
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", [[]]),
        ("all()", [[]]),
        ("!all()", []),
        ("a == 'x'", [[("a", "In", ("x",))]]),
        ('a != "x" && has(b)', [[("a", "NotIn", ("x",)), ("b", "Exists", ())]]),
        ("a in {'x', 'y'}", [[("a", "In", ("x", "y"))]]),
        ("a not in {'x'}", [[("a", "NotIn", ("x",))]]),
        ("a == 'x' || a == 'y'", [[("a", "In", ("x", "y"))]]),
        ("!(a == 'x' || has(b))", [[("a", "NotIn", ("x",)), ("b", "DoesNotExist", ())]]),
        ("!(a == 'x' && has(b))", [[("a", "NotIn", ("x",))], [("b", "DoesNotExist", ())]]),
        ("a == 'x' && (b == '1' || c == '2')",
         [[("a", "In", ("x",)), ("b", "In", ("1",))], [("a", "In", ("x",)), ("c", "In", ("2",))]]),
        ("a == 'x' || all()", [[]]),
    ],
)  # fmt: skip
def test_a_selector_is_a_union_of_label_selectors(text: str, meant: object) -> None:
    assert read(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a ==",
        "a == x",
        "(a == 'x'",
        "a == 'x')",
        "a contains 'x'",
        "global()",
        "a == 'x' b",
        "&& a",
        "é",
    ],
)
def test_a_selector_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        selector(Field("spec.s", text))
    assert caught.value.field == "spec.s"


# --- policies ----------------------------------------------------------------------------------------------


def test_a_policy_that_only_allows_is_a_network_policy() -> None:
    ingress = [
        {
            "action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'web'"},
            "destination": {"ports": [80, "8000:8010", "metrics"]},
        },
        {"action": "Allow", "source": {"nets": ["192.0.2.0/24"], "notNets": ["192.0.2.1/32"]}},
        {"action": "Allow", "source": {"namespaceSelector": "projectcalico.org/name == 'ops'"}},
    ]  # fmt: skip
    policy = resource("NetworkPolicy", "default.db", "shop", selector="app == 'db'", ingress=ingress)
    found = imported(policy)
    assert made(found, "NetworkPolicy") == {
        "db": {
            "podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                    "ports": [
                        {"protocol": "TCP", "port": 80},
                        {"protocol": "TCP", "port": 8000, "endPort": 8010},
                        {"protocol": "TCP", "port": "metrics"},
                    ],
                },
                {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}}]},
                {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}]},
            ],
        }
    }
    assert outcomes(found, Outcome.UNSAID) == []


def test_policies_that_deny_are_cluster_network_policies() -> None:
    egress = [
        {"action": "Deny", "destination": {"nets": ["192.0.2.0/24", "2001:db8::/32"]}},
        {"action": "Allow", "protocol": "UDP", "destination": {"ports": [53]}},
    ]
    early = resource("GlobalNetworkPolicy", "early", selector="has(app)", order=100, egress=egress)
    late = resource(
        "GlobalNetworkPolicy", "late", namespaceSelector="env == 'prod'", ingress=[{"action": "Allow"}]
    )
    found = imported(early, late)
    policies = made(found, "ClusterNetworkPolicy")
    assert policies["early"] == {
        "priority": 0,
        "tier": "Admin",
        "subject": {
            "pods": {
                "namespaceSelector": {},
                "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
            }
        },
        "egress": [
            {"action": "Deny", "to": [{"networks": ["192.0.2.0/24", "2001:db8::/32"]}]},
            {
                "action": "Accept",
                "to": [{"networks": ["0.0.0.0/0", "::/0"]}],
                "protocols": [{"udp": {"destinationPort": {"number": 53}}}],
            },
        ],
    }
    assert policies["early-rest"]["tier"] == "Baseline"
    assert policies["early-rest"]["priority"] == 1000
    assert policies["early-rest"]["egress"] == [
        {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}
    ]
    assert "ingress" not in policies["early-rest"]
    assert policies["late"]["tier"] == "Baseline"
    # What comes from outside cannot be denied by them, which is told.
    assert [(each.name, each.field) for each in findings(found, Outcome.UNSAID)] == [("late", "spec.ingress")]


@pytest.mark.parametrize(
    "spec",
    [
        {"tier": "security"},
        {"doNotTrack": True, "applyOnForward": True},
        {"serviceAccountSelector": "a == 'b'"},
        {"ingress": [{"action": "Pass"}]},
        {"ingress": [{"action": "Allow", "protocol": "ICMP"}]},
        {"ingress": [{"action": "Allow", "http": {"methods": ["GET"]}}]},
        {"ingress": [{"action": "Deny", "source": {"nets": ["192.0.2.0/24"]}}]},
        {"ingress": [{"action": "Allow", "source": {"notSelector": "a == 'b'"}}]},
        {"ingress": [{"action": "Allow", "protocol": "TCP", "source": {"ports": [1]}}]},
        {"egress": [{"action": "Allow", "destination": {"services": {"name": "x"}}}]},
        {"egress": [{"action": "Allow", "destination": {"ports": [1]}}]},
        {"egress": [{"action": "Allow", "destination": {"domains": ["example.org"]}}]},
        {"egress": [{"action": "Allow", "invented": 1}]},
        {"invented": 1},
    ],
)
def test_a_policy_that_cannot_be_said_whole_is_not_imported(spec: dict[str, Any]) -> None:
    """Half of one would open or close what nobody asked for."""
    good = resource("NetworkPolicy", "good", "shop", ingress=[{"action": "Allow"}])
    found = imported(resource("GlobalNetworkPolicy", "bad", **spec), good)
    assert [policy.name for policy in found.policies] == ["good"]
    assert [each.name for each in findings(found, Outcome.UNSAID)] == ["bad"]
