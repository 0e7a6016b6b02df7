"""BFD beside unnumbered sessions: the far sides are routers found on links without addresses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from bfd_agent import link_local
from bfd_rig import FAST, BirdRig
from node_rig import CONFIGURATION, NODE, peer

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
BLOCKS = {"10.244.1.0/24", "fd00:10:244:1::/120"}
#: So long that it decides nothing here.
HOLD_TIME = 120

FRR = """
hostname tor
bfd
 profile fast
  detect-multiplier 3
  receive-interval 100
  transmit-interval 100
  echo transmit-interval 100
  echo receive-interval 100
  echo-mode
router bgp 65002
 bgp router-id 10.90.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
 neighbor LINKS peer-group
 neighbor LINKS remote-as external
 neighbor LINKS timers connect 1
 neighbor down0 interface peer-group LINKS
 neighbor down0 bfd profile fast
 neighbor down1 interface peer-group LINKS
 address-family ipv4 unicast
  neighbor LINKS activate
  network 192.168.7.0/24
 address-family ipv6 unicast
  neighbor LINKS activate
  network fd77::/64
"""

BIRD = """
log stderr all;
router id 10.90.0.2;
protocol device { }
protocol radv { interface "down0" { min ra interval 3; max ra interval 10; default lifetime 0; }; }
protocol static s4 { ipv4; route 192.168.7.0/24 blackhole; }
protocol static s6 { ipv6; route fd77::/64 blackhole; }
protocol bfd { interface "down0" {
  min rx interval 100 ms; min tx interval 100 ms; multiplier 3;
  authentication meticulous keyed sha1; password "canary-bfd-77aa" { id 1; };
}; }
protocol bgp nodes {
  local as 65002;
  neighbor range fe80::/10 as 65001;
  interface "down0";
  dynamic name "n";
  direct;
  bfd on;
  hold time 120;
  error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; next hop self; extended next hop on; };
  ipv6 { import all; export where source = RTS_STATIC; next hop self; };
}
"""
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bfd", "namespace": "kube-system"},
    "stringData": {"password": "canary-bfd-77aa"},
}
SLOW_BGP = {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], "holdTime": HOLD_TIME}}  # type: ignore[dict-item]


def on_link(interface: str, **spec: object) -> dict[str, Any]:
    declared = peer(interface, "", interface=interface, **spec)
    del declared["spec"]["address"]
    return declared


class Unnumbered(BirdRig):
    """Two links from node to router, up0 to down0 and up1 to down1, with link-local addresses alone."""

    def up(self) -> None:
        super().up()
        self._net(self.node, f"link add up1 type veth peer name down1 netns {self.tor.pid}")
        for host, side in ((self.node, "up"), (self.tor, "down")):
            host.run(["ip", "address", "flush", "dev", f"{side}0", "scope", "global"])
            host.run(["ip", "link", "set", f"{side}1", "up"])
        self.far = {link: link_local(self.tor, f"down{link[-1]}") for link in ("up0", "up1")}

    def hops(self) -> dict[str, set[str]]:
        """The far sides that each learned prefix leads to in the node's kernel."""
        found = {}
        for version in (4, 6):
            for row in json.loads(self.kernel(f"-{version} -j route show proto 108") or "[]"):
                hops = [
                    hop.get("gateway") or hop.get("via", {}).get("host") for hop in row.get("nexthops", [row])
                ]
                if any(hops):
                    found[row["dst"]] = set(hops)
        return found

    def leads_to(self, *links: str) -> bool:
        """Whether all that is to be learned is, over these links."""
        return self.hops() == {prefix: {self.far[link] for link in links} for prefix in LEARNED}

    def echoed(self) -> int:
        """Echo packets that came back to FRR."""
        return sum(row["echo-packet-input"] for row in json.loads(self.vtysh("show bfd peers counters json")))

    def begin(self) -> None:
        self.start_bfd()
        self.start_speaker()
        self.start_agent()


@pytest.fixture
def rig() -> Iterator[Unnumbered]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Unnumbered()
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_a_router_found_on_a_link_is_given_up_when_silent_and_taken_back(rig: Unnumbered) -> None:
    """With FRR. The control is the other link, which has no BFD and keeps the routes of a silent router."""
    rig.start_tor(FRR)
    rig.declare("node.yaml", NODE, SLOW_BGP, on_link("up0", bfd=FAST), on_link("up1"))
    rig.begin()
    rig.established(*rig.far.values())
    rig.watched(rig.far["up0"])
    rig.until(lambda: rig.leads_to("up0", "up1"), "routes over both links")
    rig.until(lambda: rig.tor_routes() == BLOCKS, "ours at the router")
    shown = rig.bfd(rig.far["up0"])
    assert (shown["multihop"], shown["detectionTimeMs"]) == (False, 300)
    assert rig.bfd(rig.far["up1"]) == {}
    [theirs] = rig.tor_bfd().values()
    assert (theirs["status"], theirs["interface"], theirs["peer"]) == (
        "up",
        "down0",
        link_local(rig.node, "up0"),
    )
    rig.silence()
    rig.until(lambda: rig.leads_to("up1"), "its routes to go on the link with BFD")
    rows = rig.peers()
    assert rows[rig.far["up0"]]["reason"] == "BFD down: detectionTimeExpired"
    assert rows[rig.far["up1"]]["state"] == "established"
    rig.speak()
    rig.watched(rig.far["up0"])
    rig.until(lambda: rig.leads_to("up0", "up1"), "routes over both links again")
    # Echo, which nobody forwards between link-local addresses: each side's BFD gives the other's back.
    echo = {"transmitInterval": 100, "receiveInterval": 100}
    rig.declare("node.yaml", NODE, SLOW_BGP, on_link("up0", bfd={**FAST, "echo": echo}), on_link("up1"))
    rig.until(lambda: rig.bfd(rig.far["up0"]).get("echo") == "works", "our echo")
    rig.until(lambda: rig.echoed() > 20, "FRR's echo")
    # The session goes when the router does.
    rig.node.run(["ip", "link", "delete", "up0"])
    rig.until(lambda: rig.far["up0"] not in rig.peers(), "the peer to go")
    assert rig.leads_to("up1")


def test_a_bird_found_on_a_link_and_authentication(rig: Unnumbered) -> None:
    """It takes no Echo packets, and is watched without."""
    rig.start_bird(BIRD)
    auth = {"type": "MeticulousKeyedSHA1", "secretKeyRef": {"name": "bfd", "key": "password"}}
    far = rig.far["up0"]
    bfd = {**FAST, "authentication": auth, "echo": {"transmitInterval": 100}}
    rig.declare("node.yaml", NODE, SLOW_BGP, SECRET, on_link("up0", bfd=bfd))
    rig.begin()
    rig.established(far)
    rig.watched(far)
    rig.until(lambda: rig.leads_to("up0"), "its routes")
    assert rig.bfd(far)["echo"] == "refused"
    rig.silence()
    rig.until(lambda: not rig.hops(), "its routes to go")
    assert rig.peers()[far]["reason"] == "BFD down: detectionTimeExpired"
    rig.speak()
    rig.watched(far)
    rig.until(lambda: rig.leads_to("up0"), "its routes again")
