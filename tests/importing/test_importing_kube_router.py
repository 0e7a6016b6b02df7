"""What kube-router's flags and annotations come to, and what is told of those that cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from importing import findings, made, outcomes, tell

from l3net.importing import kube_router
from l3net.importing.source import Imported, Outcome

INPUTS = Path(__file__).with_name("inputs_kube_router.yaml")
#: Without these each import says that something means something else.
QUIET = ("--enable-overlay=false", "--enable-pod-egress=false")


def daemon_set(*args: str) -> dict[str, Any]:
    container = {"name": "x", "image": "cloudnativelabs/kube-router:v2", "args": [*QUIET, *args]}
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "kr", "namespace": "kube-system"},
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "other"}, container]}}},
    }  # fmt: skip


def node(name: str, **notes: str) -> dict[str, Any]:
    said = {f"kube-router.io/{key}": value for key, value in notes.items()}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": said}}


def service(**notes: str) -> dict[str, Any]:
    said = {f"kube-router.io/service.{key}": value for key, value in notes.items()}
    metadata = {"name": "web", "namespace": "shop", "annotations": said}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}


def imported(*objects: dict[str, Any]) -> Imported:
    return kube_router.imported([(each, "test") for each in objects])


def test_a_cluster_is_carried_over() -> None:
    found = tell("kube-router", INPUTS)
    balancers = ["203.0.113.0/24", "2001:db8:113::/64"]
    assert made(found, "BGPConfiguration")["default"] == {
        "asNumber": 65001,
        "nodeToNodeMesh": True,
        "gracefulRestart": {"restartTime": 90},
        "serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"],
        "advertise": {
            "podBlocks": True,
            "clusterIPs": {"enabled": True},
            "externalIPs": {"enabled": False},
            "loadBalancerIPs": {"enabled": True, "cidrs": balancers},
        },
        "import": {"ebgpRequiresPolicy": False},
    }
    assert made(found, "IPPool") == {
        "pods": {"cidr": "10.244.0.0/16", "blockSize": 24, "natOutgoing": True},
        "pods-1": {"cidr": "fd00:10:244::/48", "blockSize": 120, "natOutgoing": True},
    }
    # The only Node says so: it holds for all sessions.
    assert made(found, "BGPPeer") == {
        "kube-router-10.90.0.2": {"address": "10.90.0.2", "asNumber": 65002, "filters": ["kube-router-0"]},
        "kube-router-fd90--2": {"address": "fd90::2", "asNumber": 65002, "filters": ["kube-router-0"]},
    }
    assert made(found, "BGPFilter") == {
        "kube-router-0": {
            "export": [
                {
                    "action": "Accept",
                    "operations": {
                        "addCommunities": ["65001:9", "65535:65281"], "prependASPath": [65001, 65001],
                    },
                }
            ]
        }
    }  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == outcomes(found, Outcome.CHANGED) == []


def test_what_one_node_does_with_routes_is_its_own() -> None:
    found = imported(
        daemon_set(
            "--peer-router-ips=10.0.0.2", "--peer-router-asns", "65002", "--peer-router-multihop-ttl=3"
        ),
        node("n1", **{"path-prepend.as": "65001", "path-prepend.repeat-n": "1"}),
        node("n2"),
        node("n3", **{"node.bgp.customimportreject": "192.0.2.0/24, 2001:db8::/32"}),
    )
    peers = made(found, "BGPPeer")
    rest = {"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1", "n3"]}
    ]}  # fmt: skip
    base = {"address": "10.0.0.2", "asNumber": 65002, "multihop": 3}
    assert peers == {
        "kube-router-10.0.0.2": {**base, "nodeSelector": rest},
        "kube-router-10.0.0.2-0": {**base, "nodes": ["n1"], "filters": ["kube-router-0"]},
        "kube-router-10.0.0.2-1": {**base, "nodes": ["n3"], "filters": ["kube-router-1"]},
    }
    assert made(found, "BGPFilter")["kube-router-1"] == {
        "import": [
            {"action": "Reject", "cidr": "192.0.2.0/24"},
            {"action": "Reject", "cidr": "2001:db8::/32"},
        ]
    }


def test_an_as_number_of_others_is_prepended_behind_the_nodes_own() -> None:
    notes = {"path-prepend.as": "65000", "path-prepend.repeat-n": "2"}
    found = imported(
        daemon_set("--cluster-asn=65001"), node("n1", **notes), node("n2", **{**notes, "node.asn": "65000"})
    )
    assert [each.name for each in findings(found, Outcome.CHANGED)] == ["n1"]


def test_routers_of_one_node() -> None:
    found = imported(
        node("n1", **{"peers": "- {remoteip: 10.0.0.2, remoteasn: 65002, localip: 10.0.0.1, port: 1790}"}),
        node("n2", **{"peer.ips": "10.0.0.3,fd00::3", "peer.asns": "65003,65003", "peer.ports": "1791,",
                      "node.asn": "64600"}),
    )  # fmt: skip
    assert made(found, "BGPPeer") == {
        "kube-router-n1-10.0.0.2": {
            "address": "10.0.0.2", "asNumber": 65002, "port": 1790, "nodes": ["n1"],
            "localAddress": "10.0.0.1",
        },
        "kube-router-n2-10.0.0.3": {"address": "10.0.0.3", "asNumber": 65003, "port": 1791, "nodes": ["n2"]},
        "kube-router-n2-fd00--3": {"address": "fd00::3", "asNumber": 65003, "nodes": ["n2"]},
    }  # fmt: skip
    assert found.annotations.popitem()[1] == {"l3net.io/as-number": "64600"}
    assert outcomes(found, Outcome.UNSAID) == []


@pytest.mark.parametrize(
    "objects",
    [
        [
            daemon_set(
                "--peer-router-ips=10.0.0.2", "--peer-router-asns=1", "--peer-router-passwords=Y29ycmVjdA=="
            )
        ],
        [node("n", **{"peer.ips": "10.0.0.2", "peer.asns": "1", "peer.passwords": "Y29ycmVjdA=="})],
        [node("n", **{"peers": "[{remoteip: 10.0.0.2, remoteasn: 1, password: Y29ycmVjdA==}]"})],
    ],
)
def test_a_password_is_never_shown(objects: list[dict[str, Any]]) -> None:
    """The session stays down until the Secret is there; it is never tried without a password."""
    found = imported(*objects)
    (peer,) = made(found, "BGPPeer").values()
    (name,) = made(found, "BGPPeer")
    assert peer["password"]["secretKeyRef"] == {"name": name, "key": "password", "namespace": "kube-system"}
    assert len(outcomes(found, Outcome.UNSAID)) == 1
    assert "Y29ycmVjdA" not in repr(found)


def test_a_password_that_yaml_reads_as_a_number_is_not_shown_either() -> None:
    flags = daemon_set("--peer-router-ips=10.0.0.2", "--peer-router-asns=1", "--peer-router-passwords")
    flags["spec"]["template"]["spec"]["containers"][1]["args"].append(7391846250)
    noted = node("n")
    noted["metadata"]["annotations"]["kube-router.io/peer.passwords"] = 7391846250
    found = imported(flags, noted, node("m", **{"node.asn": "64600"}))
    assert len(findings(found, Outcome.UNSAID)) == 2
    assert "7391846250" not in repr(found)
    assert len(found.annotations) == 1


@pytest.mark.parametrize(
    "peers",
    ["{", "x", "[{remoteip: secret, remoteasn: 1}]", "[{remoteip: 10.0.0.2, remoteasn: 1, pass: secret}]"],
)
def test_what_stands_in_a_wrong_annotation_is_not_told(peers: str) -> None:
    found = imported(node("n", peers=peers), node("m", **{"node.asn": "64600"}))
    assert len(findings(found, Outcome.UNSAID)) == 1
    assert "secret" not in repr(found.findings)
    assert len(found.annotations) == 1


@pytest.mark.parametrize(
    ("flag", "field"),
    [
        ("--router-id=10.0.0.9", "--router-id"),
        ("--masquerade-all", "--masquerade-all"),
        ("--invented=1", "--invented"),
        ("--advertise-external-ip", "--advertise-external-ip"),
        ("--advertise-loadbalancer-ip=true", "--advertise-loadbalancer-ip"),
        ("--cluster-asn=many", "--cluster-asn"),
        ("--advertise-pod-cidr=maybe", "--advertise-pod-cidr"),
        ("--peer-router-ips=10.0.0.2", "--peer-router-asns"),
    ],
)
def test_what_cannot_be_said_is_told(flag: str, field: str) -> None:
    found = imported(daemon_set(flag))
    assert outcomes(found, Outcome.UNSAID) == [field]


def test_flags_that_mean_something_else() -> None:
    plain = daemon_set("--nodes-full-mesh=false", "--run-firewall=false")
    plain["spec"]["template"]["spec"]["containers"][1]["args"] = ["--nodes-full-mesh=false"]
    assert outcomes(imported(plain), Outcome.CHANGED) == [
        "--enable-pod-egress", "--nodes-full-mesh", "--enable-overlay",
    ]  # fmt: skip


def test_pools_of_balancers_and_node_ports() -> None:
    ranges = ("--advertise-loadbalancer-ip", "--loadbalancer-ip-range=192.0.2.0/24")
    found = imported(
        daemon_set("--run-loadbalancer", *ranges, "--nodeport-bindon-all-ip", "--enable-ibgp=false")
    )
    assert made(found, "IPPool") == {
        "balancers-0": {"cidr": "192.0.2.0/24", "avoidBuggyIPs": False, "allowedUses": ["LoadBalancer"]}
    }
    configuration = made(found, "BGPConfiguration")["default"]
    assert configuration["nodePortAddresses"] == ["0.0.0.0/0", "::/0"]
    assert configuration["nodeToNodeMesh"] is False


def test_reflectors() -> None:
    found = imported(node("n1", **{"rr.server": "42"}), node("n2", **{"rr.client": "42"}))
    configuration = made(found, "BGPConfiguration")["default"]
    assert configuration["topology"] == "RouteReflectors"
    assert configuration["routeReflector"] == {"clusterID": "0.0.0.42"}
    assert len(outcomes(found, Outcome.CHANGED)) == 2


def test_services_that_are_announced_or_not() -> None:
    off = imported(daemon_set("--advertise-cluster-ip"), service(**{"advertise.clusterip": "false"}))
    assert list(off.annotations.values()) == [{"l3net.io/advertise": "false"}]
    # Those alone that say so: a label that no Service has chooses none, and the annotation goes before.
    opting = imported(daemon_set(), service(**{"advertise.clusterip": "true"}))
    advertise = made(opting, "BGPConfiguration")["default"]["advertise"]
    assert advertise["clusterIPs"] == {"enabled": True}
    assert advertise["serviceSelector"] == {
        "matchExpressions": [{"key": "l3net.io/advertise", "operator": "Exists"}]
    }
    assert list(opting.annotations.values()) == [{"l3net.io/advertise": "true"}]
    mixed = imported(
        daemon_set(), service(**{"advertise.clusterip": "true", "advertise.externalip": "false"})
    )
    assert len(outcomes(mixed, Outcome.UNSAID)) == 2
    assert not mixed.annotations
    others = imported(daemon_set(), service(dsr="tunnel", local="true", hairpin=""))
    assert len(outcomes(others, Outcome.UNSAID)) == 2
