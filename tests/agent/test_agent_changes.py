"""Configuration changes against the far side's session uptime: no session flaps that need not."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, peer

pytestmark = pytest.mark.netns

FILTER = {
    "apiVersion": "l3net.io/v1alpha1",
    "kind": "BGPFilter",
    "metadata": {"name": "f"},
    "spec": {"export": [{"action": "Accept", "operations": {"addCommunities": ["65001:77"], "setMED": 5}}]},
}


def configuration(**spec: object) -> dict[str, Any]:
    return {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], **spec}}  # type: ignore[dict-item]


def planned(rig: Rig, *documents: dict[str, Any]) -> dict[str, str]:
    """What `l3net bgp plan` says of each peer, were these the manifests."""
    other = rig.directory / "planned"
    other.mkdir(exist_ok=True)
    kept, rig.manifests = rig.manifests, other
    try:
        rig.declare("node.yaml", *documents)
    finally:
        rig.manifests = kept
    out = rig.node.run([sys.executable, "-m", "l3net.cli.main", "bgp", "plan", str(other), "-o", "json"])
    return {row["peer"]: row["action"] for row in json.loads(out.stdout)["sessions"]}


def test_a_plan_says_what_a_typing_error_does(rig: Rig) -> None:
    """The last good version stays in force, of an object and of a file that cannot be read."""
    rig.start()
    wrong = peer("tor4", "10.90.0.2", holdTime="nine")
    assert planned(rig, NODE, CONFIGURATION, wrong, TOR6) == {
        "10.90.0.2": "unchanged",
        "fd90::2": "unchanged",
    }
    assert planned(rig, NODE, CONFIGURATION, TOR6) == {"10.90.0.2": "removed", "fd90::2": "unchanged"}
    (rig.directory / "planned" / "tor4.yaml").write_text("spec: [")
    assert planned(rig, NODE, CONFIGURATION, TOR6) == {"10.90.0.2": "unchanged", "fd90::2": "unchanged"}


def community(rig: Rig) -> str:
    return rig.vtysh("show bgp ipv4 unicast 10.244.1.0/24 json")


def test_no_session_flaps_that_need_not(rig: Rig) -> None:
    rig.start()
    rig.until(lambda: len(rig.tor_routes()) == 2, "the blocks")
    before = rig.tor_sessions()

    def change(what: str, seen: str, *documents: dict[str, Any]) -> None:
        """Apply, wait until the far side shows it, and see that the plan had said so."""
        assert planned(rig, *documents) == {"10.90.0.2": "soft", "fd90::2": "soft"}, what
        rig.declare("node.yaml", *documents)
        rig.until(lambda: seen in community(rig), what)
        assert rig.tor_sessions() == before, what

    base = [NODE, CONFIGURATION, TOR4, TOR6]
    change("communities", "65001:5", NODE, configuration(advertise={"communities": ["65001:5"]}), TOR4, TOR6)
    filtered = [peer("tor4", "10.90.0.2", filters=["f"]), peer("tor6", "fd90::2", filters=["f"])]
    change("export filter", "65001:77", NODE, CONFIGURATION, FILTER, *filtered)
    rig.declare("node.yaml", *base)
    rig.until(lambda: "65001:77" not in community(rig), "the filter to go")
    for what, spec in {
        "maxPrefixes": {"maxPrefixes": 7},
        "thirdPartyNextHops": {"thirdPartyNextHops": True},
        "allowBlackhole": {"allowBlackhole": True},
    }.items():
        rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2", **spec), TOR6)
        rig.until(lambda: not rig.status()["problems"], what)
        assert rig.tor_sessions() == before, what
    rig.declare("node.yaml", NODE, configuration(**{"import": {"cidrs": ["172.16.0.0/12"]}}), TOR4, TOR6)
    rig.until(
        lambda: rig.peers()["10.90.0.2"]["refused"].get("outsideImportCIDRs") == 1, "the import to be refused"
    )
    assert "192.168.7.0/24" not in rig.kernel("route show proto 108")
    rig.declare("node.yaml", *base)
    rig.until(lambda: "192.168.7.0/24" in rig.kernel("route show proto 108"), "the route to be back")
    assert rig.tor_sessions() == before

    # The control: a hold time can only be changed by opening the session again, and the other is left alone.
    changed = peer("tor4", "10.90.0.2", holdTime=12)
    assert planned(rig, NODE, CONFIGURATION, changed, TOR6) == {"10.90.0.2": "reset", "fd90::2": "unchanged"}
    rig.declare("node.yaml", NODE, CONFIGURATION, changed, TOR6)
    rig.until(
        lambda: rig.tor_sessions().get("10.90.0.1", before["10.90.0.1"]) != before["10.90.0.1"], "the reset"
    )
    assert rig.tor_sessions()["fd90::1"] == before["fd90::1"]


def test_a_peer_over_its_limit_keeps_its_session_and_harms_no_other(rig: Rig) -> None:
    rig.start()
    many = [f"network 172.20.{number}.0/24" for number in range(20)]
    rig.vtysh("conf t", "router bgp 65002", "address-family ipv4 unicast", *many)
    rig.until(lambda: rig.peers()["10.90.0.2"]["accepted"] == 21, "all twenty-one")
    rig.until(lambda: "fd77::/64" in rig.kernel("-6 route show proto 108"), "the other peer's route")
    before = rig.tor_sessions()
    rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2", maxPrefixes=30), TOR6)
    more = [f"network 172.21.{number}.0/24" for number in range(40)]
    rig.vtysh("conf t", "router bgp 65002", "address-family ipv4 unicast", *more)
    rig.until(lambda: rig.peers()["10.90.0.2"]["overLimit"] == ["IPv4"], "the limit to be named")
    assert rig.peers()["10.90.0.2"]["received"] == 30
    assert any("over its limit" in problem for problem in rig.status()["problems"])
    assert rig.tor_sessions() == before
    assert "fd77::/64" in rig.kernel("-6 route show proto 108")
    gone = [f"no {line}" for line in more]
    rig.vtysh("conf t", "router bgp 65002", "address-family ipv4 unicast", *gone)
    rig.until(lambda: rig.peers()["10.90.0.2"]["overLimit"] == [], "the limit to be left")
    rig.until(lambda: rig.peers()["10.90.0.2"]["accepted"] == 21, "all twenty-one again")
    # Lower than what is there, and raised again: at once, with no word from the far side.
    rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2", maxPrefixes=3), TOR6)
    rig.until(lambda: rig.peers()["10.90.0.2"]["received"] == 3, "the lower limit", 10)
    assert rig.peers()["10.90.0.2"]["overLimit"] == ["IPv4"]
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.until(lambda: rig.peers()["10.90.0.2"]["accepted"] == 21, "all of them once more", 10)
    assert not any("over its limit" in problem for problem in rig.status()["problems"])
    assert rig.tor_sessions() == before


def test_peers_by_autodiscovery_follow_the_default_gateway(rig: Rig) -> None:
    rig.start_tor()
    discovered = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPPeer",
        "metadata": {"name": "gateway"},
        "spec": {"autodiscover": "DefaultGateway", "asNumber": 65002},
    }
    rig.declare("node.yaml", NODE, CONFIGURATION, discovered)
    rig.start_speaker()
    rig.start_agent()
    rig.until(rig.status, "the agent")
    assert rig.peers() == {}
    rig.kernel("route add default via 10.90.0.2")
    rig.kernel("-6 route add default via fd90::2")
    rig.established("10.90.0.2", "fd90::2")
    rig.kernel("-6 route del default")
    rig.until(lambda: set(rig.peers()) == {"10.90.0.2"}, "the IPv6 peer to go")
