"""What Cilium's objects come to, and what is told of those that cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from importing import CLASSES, findings, made, outcomes, tell

from l3net.importing import cilium
from l3net.importing.source import Imported, Outcome

INPUTS = Path(__file__).with_name("inputs_cilium.yaml")
REJECT = {"action": "Reject"}
FAMILY = {"afi": "ipv4", "safi": "unicast", "advertisements": {}}
ALL = {"matchExpressions": [{"key": "never", "operator": "NotIn", "values": ["used"]}]}


def resource(kind: str, name: str = "one", /, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": spec.pop("labels", {})}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def imported(*objects: dict[str, Any]) -> Imported:
    return cilium.imported([(each, "test") for each in objects])


def cluster(*peers: dict[str, Any], **instance: Any) -> dict[str, Any]:
    return resource("CiliumBGPClusterConfig", "c", bgpInstances=[
        {"name": "i", "localASN": 65001, "peers": list(peers), **instance}
    ])  # fmt: skip


def peer(name: str = "p", address: str = "10.0.0.2", **more: Any) -> dict[str, Any]:
    return {"name": name, "peerAddress": address, "peerASN": 65002, "peerConfigRef": {"name": "conf"}, **more}


def config(**spec: Any) -> dict[str, Any]:
    return resource("CiliumBGPPeerConfig", "conf", **{"families": [FAMILY], **spec})


def advertisement(*adverts: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return resource("CiliumBGPAdvertisement", "ad", advertisements=list(adverts), **metadata)


def service(*addresses: str, selector: object = ALL, **more: Any) -> dict[str, Any]:
    of = {"addresses": list(addresses), **more}
    return {"advertisementType": "Service", "service": of, "selector": selector}


OTHER = {"matchLabels": {"a": "b"}}
PODS = {"advertisementType": "PodCIDR"}
POOL = resource("CiliumLoadBalancerIPPool", "pool", blocks=[{"cidr": "203.0.113.0/24"}])


def exports(found: Imported, name: str = "c-i-p") -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = made(found, "BGPFilter")[f"cilium-{name}"]["export"]
    assert rules[-1] == REJECT
    return rules[:-1]


def test_a_cluster_is_carried_over() -> None:
    found = tell("cilium", INPUTS)
    assert made(found, "BGPConfiguration")["default"] == {
        "asNumber": 65001,
        "nodeToNodeMesh": False,
        "advertise": {
            "podBlocks": True,
            "clusterIPs": {"enabled": False},
            "externalIPs": {"enabled": False},
            "loadBalancerIPs": {"enabled": True, "cidrs": ["203.0.113.0/26", "2001:db8:113::/64"]},
            "serviceSelector": {"matchLabels": {"expose": "outside"}},
        },
    }
    assert made(found, "BGPPeer")["fabric-main-tor4"] == {
        "address": "10.90.0.2",
        "asNumber": 65002,
        "nodeSelector": {"matchLabels": {"rack": "a"}},
        "families": ["IPv4"],
        "holdTime": 9,
        "gracefulRestart": {"restartTime": 15},
        "filters": ["cilium-fabric-main-tor4"],
    }
    assert made(found, "BGPPeer")["fabric-main-tor6"]["gracefulRestart"] == {"enabled": False}
    assert made(found, "BGPFilter")["cilium-fabric-main-tor4"] == {
        "export": [
            {
                "action": "Accept", "cidr": "203.0.113.0/26", "prefixLength": {"min": 32},
                "operations": {"addCommunities": ["65001:20", "65535:65281"], "setLocalPreference": 150},
            },
            {
                "action": "Accept", "cidr": "0.0.0.0/0", "prefixLength": {"max": 31},
                "operations": {"addCommunities": ["65001:10", "65001:1:2"]},
            },
            REJECT,
        ],
        "import": [REJECT],
    }  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == []
    assert outcomes(found, Outcome.CHANGED) == CLASSES


def test_a_peer_hears_what_its_family_names_and_nothing_else() -> None:
    """Addresses of load balancers are withheld from a peer that hears ClusterIPs, which have no known
    range."""
    found = imported(POOL, cluster(peer()), config(), advertisement(service("ClusterIP")))
    assert exports(found) == [
        {"action": "Reject", "cidr": "203.0.113.0/24", "prefixLength": {"min": 32}},
        {"action": "Accept", "cidr": "0.0.0.0/0", "prefixLength": {"min": 32}},
    ]
    assert made(found, "BGPConfiguration")["default"]["advertise"]["podBlocks"] is False
    silent = {"afi": "ipv4", "safi": "unicast"}  # no advertisements: none
    found = imported(POOL, cluster(peer()), config(families=[silent]), advertisement(PODS))
    assert exports(found) == [{"action": "Reject", "cidr": "203.0.113.0/24", "prefixLength": {"min": 32}}]
    labelled = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"a": "b"}}}
    found = imported(cluster(peer()), config(families=[labelled]), advertisement(PODS))
    assert exports(found) == []


def test_an_aggregate_is_a_network_of_every_node() -> None:
    ad = advertisement(service("LoadBalancerIP", aggregationLengthIPv4=25))
    found = imported(POOL, cluster(peer()), config(), ad)
    assert exports(found) == [
        {"action": "Accept", "cidr": "203.0.113.0/25", "matchOperator": "Equal"},
        {"action": "Accept", "cidr": "203.0.113.128/25", "matchOperator": "Equal"},
    ]
    advertise = made(found, "BGPConfiguration")["default"]["advertise"]
    assert advertise["networks"] == ["203.0.113.0/25", "203.0.113.128/25"]
    assert outcomes(found, Outcome.CHANGED) == [*CLASSES, "spec.advertisements[0].service"]


def test_peers_in_all_their_forms() -> None:
    gateway = {"name": "g", "peerASN": 65002, "autoDiscovery": {
        "mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv6"},
    }}  # fmt: skip
    link = {"name": "l", "autoDiscovery": {"mode": "Unnumbered", "unnumbered": {"interface": "eth1"}}}
    conf = config(authSecretRef="bgp", ebgpMultihop=3, transport={"peerPort": 1790})
    found = imported(cluster(gateway, link, peer(), localPort=1179), conf)
    peers = made(found, "BGPPeer")
    assert peers["c-i-g"]["autodiscover"] == "DefaultGateway"
    assert peers["c-i-l"] == {
        "interface": "eth1", "gracefulRestart": {"enabled": False}, "filters": ["cilium-c-i-l"],
    }  # fmt: skip
    assert (peers["c-i-p"]["multihop"], peers["c-i-p"]["port"]) == (3, 1790)
    assert peers["c-i-p"]["password"]["secretKeyRef"] == {
        "name": "bgp", "key": "password", "namespace": "kube-system",
    }  # fmt: skip
    assert made(found, "BGPConfiguration")["default"]["listenPort"] == 1179


def test_several_instances_are_local_as_numbers() -> None:
    two = resource("CiliumBGPClusterConfig", "c", bgpInstances=[
        {"name": "i", "localASN": 65001, "peers": [peer(), peer("q", "10.0.0.4")]},
        {"name": "j", "localASN": 64600, "peers": [peer("p", "10.0.0.3")]},
    ])  # fmt: skip
    found = imported(two, config())
    assert made(found, "BGPConfiguration")["default"]["asNumber"] == 65001
    assert made(found, "BGPPeer")["c-j-p"]["localASNumber"] == 64600


def test_what_one_node_has_otherwise() -> None:
    instance = {"name": "i", "localASN": 64601, "routerID": "10.0.0.9", "peers": [
        {"name": "p", "localAddress": "10.0.0.1"},
    ]}  # fmt: skip
    found = imported(
        cluster(peer()), config(), resource("CiliumBGPNodeConfigOverride", "n1", bgpInstances=[instance])
    )
    peers = made(found, "BGPPeer")
    assert peers["c-i-p-n1"]["localAddress"] == "10.0.0.1"
    assert peers["c-i-p-n1"]["nodes"] == ["n1"]
    assert peers["c-i-p"]["nodeSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1"]}
    ]
    assert found.annotations.popitem()[1] == {"l3net.io/as-number": "64601"}
    assert outcomes(found, Outcome.UNSAID) == ["spec.bgpInstances[0].routerID"]


def test_the_older_policy() -> None:
    attributes = {
        "selectorType": "PodCIDR",
        "communities": {"standard": ["65001:10"]},
        "localPreference": 120,
    }
    neighbor = {
        "peerAddress": "10.0.0.2/32", "peerASN": 65002, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3,
        "eBGPMultihopTTL": 1, "families": [{"afi": "ipv4", "safi": "unicast"}],
        "advertisedPathAttributes": [attributes],
    }  # fmt: skip
    router = {"localASN": 65001, "exportPodCIDR": True, "serviceSelector": ALL, "neighbors": [neighbor]}
    old = resource(
        "CiliumBGPPeeringPolicy", "old", nodeSelector={"matchLabels": {"rack": "a"}}, virtualRouters=[router]
    )
    found = imported(POOL, {**old, "apiVersion": "cilium.io/v2alpha1"})
    assert made(found, "BGPPeer")["old-0-0"] == {
        "address": "10.0.0.2", "asNumber": 65002, "nodeSelector": {"matchLabels": {"rack": "a"}},
        "families": ["IPv4"], "holdTime": 9, "gracefulRestart": {"enabled": False},
        "filters": ["cilium-old-0-0"],
    }  # fmt: skip
    assert exports(found, "old-0-0") == [
        {"action": "Accept", "cidr": "203.0.113.0/24", "prefixLength": {"min": 32}},
        {
            "action": "Accept", "cidr": "0.0.0.0/0", "prefixLength": {"max": 31},
            "operations": {"addCommunities": ["65001:10"], "setLocalPreference": 120},
        },
    ]  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == []


def test_pools() -> None:
    of = {"matchLabels": {"io.kubernetes.service.namespace": "shop"}}
    first = {"cidrs": [{"cidr": "192.0.2.0/24"}], "serviceSelector": of, "disabled": True}
    found = imported(
        resource("CiliumLoadBalancerIPPool", "a", **first),
        resource("CiliumLoadBalancerIPPool", "b", blocks=[{"start": "198.51.100.1"}], serviceSelector=ALL),
        resource("CiliumPodIPPool", "c", ipv4={"cidrs": ["10.1.0.0/16"], "maskSize": 27},
                 ipv6={"cidrs": ["fd00::/104"], "maskSize": 120}),
    )  # fmt: skip
    pools = made(found, "IPPool")
    assert pools == {
        "a": {
            "cidr": "192.0.2.0/24", "disabled": True, "avoidBuggyIPs": False, "allowedUses": ["LoadBalancer"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
        },
        "c-0": {"cidr": "10.1.0.0/16", "blockSize": 27},
        "c-1": {"cidr": "fd00::/104", "blockSize": 120},
    }  # fmt: skip
    assert [each.name for each in findings(found, Outcome.UNSAID)] == ["b"]  # it would be open to all


@pytest.mark.parametrize(
    ("objects", "field"),
    [
        ([cluster(peer(peerASN=0)), config()], "spec.bgpInstances[0].peers[0].peerASN"),
        ([cluster(peer())], "spec.bgpInstances[0].peers[0].peerConfigRef"),
        ([cluster(peer()), config(families=[{"afi": "l2vpn", "safi": "evpn"}])], "spec.families[0]"),
        ([cluster(peer()), config(invented=1)], "spec.invented"),
        ([cluster(peer(invented=1)), config()], "spec.bgpInstances[0].peers[0].invented"),
        ([cluster(peer(), invented=1), config()], "spec.bgpInstances[0].invented"),
        ([cluster(peer()), config(), advertisement(service("ExternalIP"))], "spec.advertisements[0]"),
        ([advertisement({"advertisementType": "Other"})], "spec.advertisements[0]"),
        ([resource("CiliumLoadBalancerIPPool", blocks=[{"cidr": "x"}])], "spec.blocks[0].cidr"),
        ([resource("CiliumLoadBalancerIPPool", blocks=[{"cidr": "192.0.2.0/24"}], allowFirstLastIPs="No")],
         "spec.allowFirstLastIPs"),
        ([resource("CiliumL2AnnouncementPolicy")], ""),
        ([cluster(peer()), config(),
          advertisement(service("LoadBalancerIP"), service("ClusterIP", selector=OTHER))],
         "spec.advertisements[1].selector"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_told(objects: list[dict[str, Any]], field: str) -> None:
    found = imported(
        *objects, resource("CiliumLoadBalancerIPPool", "good", blocks=[{"cidr": "198.51.100.0/24"}])
    )
    assert outcomes(found, Outcome.UNSAID) == [field]
    assert "good" in found.pools
