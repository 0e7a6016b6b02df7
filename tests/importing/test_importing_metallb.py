"""What MetalLB's objects come to, and frr-k8s', and what is told of those that cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from importing import CLASSES, findings, made, outcomes, tell

from l3net.importing import metallb
from l3net.importing.source import Imported, Outcome

INPUTS = Path(__file__).with_name("inputs_metallb.yaml")
PEER = {"myASN": 65001, "peerASN": 65002, "peerAddress": "10.0.0.2"}
REJECT = {"action": "Reject"}


def resource(kind: str, name: str = "one", /, **spec: Any) -> dict[str, Any]:
    group = "frrk8s.metallb.io/v1beta1" if kind == "FRRConfiguration" else "metallb.io/v1beta1"
    metadata = {"name": name, "namespace": "metallb-system", "labels": spec.pop("labels", {})}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def imported(*objects: dict[str, Any]) -> Imported:
    return metallb.imported([(each, "test") for each in objects])


def told(found: Imported, peer: str) -> list[tuple[str, list[str], int | None]]:
    """Of a peer: prefix, communities, LOCAL_PREF."""
    rules = found.filters[f"metallb-{peer}"].exports
    return [
        (
            f"{rule.cidr}{'' if rule.min_length is None else f' from {rule.min_length}'}",
            sorted(map(str, rule.operations.add_communities)),
            rule.operations.local_preference,
        )
        for rule in rules
        if rule.cidr is not None
    ]


def test_a_cluster_is_carried_over() -> None:
    found = tell("metallb", INPUTS)
    assert made(found, "BGPConfiguration")["default"] == {
        "asNumber": 65001,
        "nodeToNodeMesh": False,
        "advertise": {
            "podBlocks": False,
            "clusterIPs": {"enabled": False},
            "externalIPs": {"enabled": False},
            "loadBalancerIPs": {"enabled": True, "cidrs": ["203.0.113.10/31", "2001:db8:113::/64"]},
        },
    }
    assert made(found, "IPPool") == {
        "outside-0": {"cidr": "203.0.113.10/31", "avoidBuggyIPs": False, "allowedUses": ["LoadBalancer"]},
        "outside-1": {"cidr": "2001:db8:113::/64", "allowedUses": ["LoadBalancer"]},
    }
    assert made(found, "BGPPeer")["tor4"] == {
        "address": "10.90.0.2",
        "asNumber": 65001,
        "nodeSelector": {"matchLabels": {"rack": "a"}},
        "holdTime": 90,
        "gracefulRestart": {"enabled": False},
        "filters": ["metallb-tor4"],
    }
    filters = made(found, "BGPFilter")
    assert filters["metallb-tor4"]["import"] == [REJECT]
    assert filters["metallb-tor4"]["export"][-1] == REJECT
    tags = ["65001:100", "65001:1:2"]
    assert told(found, "tor4") == [
        ("203.0.113.10/31 from 32", tags, 300), ("2001:db8:113::/64 from 128", tags, 300),
    ]  # fmt: skip
    # What two advertisements say of one prefix is put together.
    assert told(found, "tor6")[1] == ("2001:db8:113::/64 from 128", sorted([*tags, "65001:6"]), 300)
    assert found.annotations.popitem()[1] == {"l3net.io/load-balancer-ips": "203.0.113.10"}
    assert outcomes(found, Outcome.UNSAID) == []
    assert outcomes(found, Outcome.CHANGED) == CLASSES


def test_what_no_advertisement_names_is_not_told() -> None:
    pools = [
        resource("IPAddressPool", "a", addresses=["203.0.113.0/24"]),
        resource("IPAddressPool", "b", addresses=["198.51.100.0/24"]),
    ]
    only = resource("BGPAdvertisement", ipAddressPools=["b"])
    found = imported(*pools, only, resource("BGPPeer", "near", **PEER))
    assert [row[0] for row in told(found, "near")] == ["198.51.100.0/24 from 32"]
    none = imported(*pools, resource("BGPPeer", "near", **PEER))
    assert told(none, "near") == []
    assert made(none, "BGPFilter")["metallb-near"]["export"] == [REJECT]


def test_an_aggregate_is_a_network_of_every_node() -> None:
    pool = resource("IPAddressPool", addresses=["203.0.113.0/24", "2001:db8::/120"])
    both = resource("BGPAdvertisement", aggregationLength=25, aggregationLengthV6=120)
    found = imported(pool, both, resource("BGPPeer", "near", **PEER))
    assert made(found, "BGPConfiguration")["default"]["advertise"]["networks"] == [
        "203.0.113.0/25", "203.0.113.128/25", "2001:db8::/120",
    ]  # fmt: skip
    export = made(found, "BGPFilter")["metallb-near"]["export"]
    assert export == [
        {"action": "Accept", "cidr": "203.0.113.0/25", "matchOperator": "Equal"},
        {"action": "Accept", "cidr": "203.0.113.128/25", "matchOperator": "Equal"},
        {"action": "Accept", "cidr": "2001:db8::/120", "matchOperator": "Equal"},
        REJECT,
    ]
    assert outcomes(found, Outcome.CHANGED) == [
        *CLASSES, "spec.aggregationLength", "spec.aggregationLengthV6",
    ]  # fmt: skip


def test_nodes_that_advertise() -> None:
    """The same for all that a peer hears are the peer's; others cannot be said."""
    pool = resource("IPAddressPool", addresses=["203.0.113.0/24"])
    edge = [{"matchLabels": {"edge": "yes"}}]
    peer = resource("BGPPeer", "near", **PEER)
    found = imported(pool, peer, resource("BGPAdvertisement", nodeSelectors=edge))
    assert made(found, "BGPPeer")["near"]["nodeSelector"] == {"matchLabels": {"edge": "yes"}}
    assert outcomes(found, Outcome.UNSAID) == []
    mixed = imported(
        pool, peer, resource("BGPAdvertisement", nodeSelectors=edge), resource("BGPAdvertisement", "two")
    )
    assert "nodeSelector" not in made(mixed, "BGPPeer")["near"]
    assert outcomes(mixed, Outcome.UNSAID) == ["spec.nodeSelectors"]


def test_peers_in_all_their_forms() -> None:
    profile = resource(
        "BFDProfile", "fast", receiveInterval=100, transmitInterval=20, detectMultiplier=5, echoMode=True
    )
    far = {**PEER, "myASN": 64600}
    inside = {"myASN": 65001, "peerAddress": "fd00::2", "dynamicASN": "internal", "peerPort": 1790}
    how = {"dualStackAddressFamily": True, "enableGracefulRestart": True, "sourceAddress": "10.0.0.1"}
    found = imported(
        profile,
        resource("BGPPeer", "link", myASN=65001, interface="eth1", dynamicASN="external"),
        resource("BGPPeer", "inside", **inside, bfdProfile="fast"),
        resource("BGPPeer", "other", **far, **how, bfdProfile="fast", ebgpMultiHop=True),
    )
    peers = made(found, "BGPPeer")
    assert peers["link"] == {
        "interface": "eth1", "gracefulRestart": {"enabled": False}, "filters": ["metallb-link"],
    }  # fmt: skip
    assert (peers["inside"]["asNumber"], peers["inside"]["port"]) == (65001, 1790)
    assert peers["inside"]["bfd"] == {
        "minInterval": 100, "multiplier": 5, "echo": {"transmitInterval": 50, "receiveInterval": 50},
    }  # fmt: skip
    assert peers["other"] == {
        "address": "10.0.0.2",
        "asNumber": 65002,
        "localASNumber": 64600,
        "families": ["IPv4", "IPv6"],
        "localAddress": "10.0.0.1",
        "multihop": 255,
        "bfd": {"minInterval": 100, "multiplier": 5},
        "filters": ["metallb-other"],
    }
    assert outcomes(found, Outcome.CHANGED) == ["spec.transmitInterval", "spec.bfdProfile"]
    assert outcomes(found, Outcome.UNSAID) == []


@pytest.mark.parametrize("secret", ["correct-horse", 7391846250, True])  # YAML reads some as no text
def test_a_password_is_never_shown(secret: object) -> None:
    found = imported(
        resource("BGPPeer", "plain", **PEER, password=secret),
        resource("BGPPeer", "named", **{**PEER, "peerAddress": "10.0.0.3"}, passwordSecret={"name": "bgp"}),
    )
    peers = made(found, "BGPPeer")
    assert peers["named"]["password"]["secretKeyRef"] == {
        "name": "bgp", "key": "password", "namespace": "metallb-system",
    }  # fmt: skip
    # The session stays down until the Secret is there; it is never tried without a password.
    assert peers["plain"]["password"]["secretKeyRef"] == {
        "name": "metallb-plain", "key": "password", "namespace": "kube-system",
    }  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == ["spec.password"]
    assert secret is True or str(secret) not in repr(found) + repr(peers)


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("BGPPeer", {**PEER, "routerID": "10.0.0.9"}, "spec.routerID"),
        ("BGPPeer", {**PEER, "vrf": "red"}, "spec.vrf"),
        ("BGPPeer", {**PEER, "bfdProfile": "none"}, "spec.bfdProfile"),
        ("BGPPeer", {**PEER, "holdTime": "soon"}, "spec.holdTime"),
        ("BGPPeer", {**PEER, "invented": 1}, "spec.invented"),
        ("BGPPeer", {**PEER, "nodeSelectors": [{"matchLabels": {"a": "1"}}, {"matchLabels": {"b": "1"}}]},
         "spec.nodeSelectors"),
        ("IPAddressPool", {"addresses": ["203.0.113.0/24"], "autoAssign": False}, "spec.autoAssign"),
        ("IPAddressPool", {"addresses": ["203.0.113.9-203.0.113.1"]}, "spec.addresses[0]"),
        ("L2Advertisement", {}, ""),
        ("BGPAdvertisement", {"ipAddressPools": ["none"]}, "spec.ipAddressPools[0]"),
        ("BFDProfile", {"minimumTtl": 200}, "spec.minimumTtl"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_told(kind: str, spec: dict[str, Any], field: str) -> None:
    others = [resource("IPAddressPool", "good", addresses=["192.0.2.0/24"])]
    found = imported(resource(kind, "bad", **spec), *others)
    assert [(each.name, each.field) for each in findings(found, Outcome.UNSAID)] == [
        ("metallb-system/bad", field)
    ]
    assert "good" in found.pools


def test_addresses_that_end_in_0_and_255() -> None:
    """MetalLB gives them unless it is told not to, l3net does not unless it is told to."""
    plain = {"addresses": ["203.0.113.0/24"]}
    found = imported(
        resource("IPAddressPool", "a", **plain),
        resource("IPAddressPool", "b", addresses=["198.51.100.0/24"], avoidBuggyIPs=False),
        resource("IPAddressPool", "c", addresses=["192.0.2.0/24"], avoidBuggyIPs=True),
        resource("IPAddressPool", "d", addresses=["2001:db8::/64"]),
    )
    pools = made(found, "IPPool")
    assert {name: pool.get("avoidBuggyIPs") for name, pool in pools.items()} == {
        "a": False, "b": False, "c": None, "d": None,
    }  # fmt: skip
    assert outcomes(found, Outcome.UNSAID) == []
    assert outcomes(found, Outcome.CHANGED) == CLASSES
    # Of a pool of one or two addresses l3net gives every one.
    small = imported(
        resource("IPAddressPool", addresses=["203.0.113.1-203.0.114.0", "fd00::ff/128"], avoidBuggyIPs=True)
    )
    changed = [each for each in findings(small, Outcome.CHANGED) if each.field == "spec.avoidBuggyIPs"]
    assert [": 203.0.114.0." in each.detail for each in changed] == [True]


def test_a_pool_of_some_namespaces() -> None:
    of_names = resource(
        "IPAddressPool", "a", addresses=["192.0.2.0/24"], serviceAllocation={"namespaces": ["x"]}
    )
    by_label = {"namespaceSelectors": [{"matchLabels": {"env": "prod"}}], "priority": 5}
    labelled = resource("IPAddressPool", "b", addresses=["198.51.100.0/24"], serviceAllocation=by_label)
    by_service = {"serviceSelectors": [{"matchLabels": {"env": "prod"}}]}
    closed = resource("IPAddressPool", "c", addresses=["203.0.113.0/24"], serviceAllocation=by_service)
    found = imported(of_names, labelled, closed)
    pools = made(found, "IPPool")
    assert pools["a"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "x"}}
    assert pools["b"]["namespaceSelector"] == {"matchLabels": {"env": "prod"}}
    assert sorted(pools) == ["a", "b"]  # c would be open to all
    assert outcomes(found, Outcome.CHANGED) == [*CLASSES, "spec.serviceAllocation.priority"]


def test_frr_k8s() -> None:
    neighbor = {
        "address": "10.0.0.2",
        "asn": 65002,
        "holdTime": "9s",
        "enableGracefulRestart": True,
        "toAdvertise": {
            "allowed": {"mode": "all"},
            "withLocalPref": [{"prefixes": ["192.0.2.0/24"], "localPref": 200}],
            "withCommunity": [
                {"prefixes": ["192.0.2.0/24", "2001:db8::/64"], "community": "large:65001:1:2"}
            ],
        },
        "toReceive": {
            "allowed": {
                "prefixes": [{"prefix": "10.9.0.0/16", "ge": 24, "le": 28}, {"prefix": "10.8.0.0/16"}]
            }
        },
    }
    router = {"asn": 65001, "prefixes": ["192.0.2.0/24", "2001:db8::/64"], "neighbors": [neighbor]}
    where = {"matchLabels": {"rack": "a"}}
    found = imported(
        resource("FRRConfiguration", "mine", bgp={"routers": [router]}, nodeSelector=where),
        resource("FRRConfiguration", "metallb-node", bgp={"routers": [{"asn": 65001}]}),
    )
    assert made(found, "BGPPeer") == {
        "mine-10.0.0.2": {
            "address": "10.0.0.2", "asNumber": 65002, "nodeSelector": where, "holdTime": 9,
            "filters": ["metallb-mine-10.0.0.2"],
        }
    }  # fmt: skip
    assert made(found, "BGPFilter")["metallb-mine-10.0.0.2"] == {
        "export": [
            {
                "action": "Accept", "cidr": "192.0.2.0/24", "matchOperator": "Equal",
                "operations": {"addCommunities": ["65001:1:2"], "setLocalPreference": 200},
            },
            {
                "action": "Accept", "cidr": "2001:db8::/64", "matchOperator": "Equal",
                "operations": {"addCommunities": ["65001:1:2"]},
            },
            REJECT,
        ],
        "import": [
            {"action": "Accept", "cidr": "10.9.0.0/16", "prefixLength": {"min": 24, "max": 28}},
            {"action": "Accept", "cidr": "10.8.0.0/16", "matchOperator": "Equal"},
            REJECT,
        ],
    }  # fmt: skip
    assert made(found, "BGPConfiguration")["default"]["advertise"]["networks"] == [
        "192.0.2.0/24",
        "2001:db8::/64",
    ]
    assert outcomes(found, Outcome.UNSAID) == []


def test_what_frr_k8s_adds_to_a_peer_of_metallbs() -> None:
    """MetalLB's own FRRConfigurations are made of its resources; another opens its session for routes."""
    receive = {"address": "10.0.0.2", "asn": 65002, "toReceive": {"allowed": {"mode": "all"}}}
    own = resource(
        "FRRConfiguration", "metallb-n1", bgp={"routers": [{"asn": 65001, "prefixes": ["192.0.2.1/32"]}]}
    )
    more = resource("FRRConfiguration", "receive", bgp={"routers": [{"asn": 65001, "neighbors": [receive]}]})
    found = imported(resource("BGPPeer", "near", **PEER), own, more)
    assert list(found.peers) == ["near"]
    assert made(found, "BGPFilter")["metallb-near"]["import"] == [{"action": "Accept"}, REJECT]
    assert "networks" not in made(found, "BGPConfiguration")["default"]["advertise"]
    raw = imported(resource("FRRConfiguration", raw={"rawConfig": "router bgp 1"}))
    assert outcomes(raw, Outcome.UNSAID) == ["spec.raw"]
