"""IPv4 over links without IPv4 addresses: RFC 8950 and unnumbered, with all far sides."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from far_sides import Frr, Gobgp, Originated
from node_rig import NODE, brought_up, peer
from stage import (
    BEHIND_PREFIX,
    BLOCKS,
    FAR_ADDRESS,
    NODE_ADDRESS,
    ORIGINATED,
    Stage,
    configuration,
    far_session,
)

from l3net.lab.host import Host

pytestmark = pytest.mark.netns

PACKETS = 2000


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A link without IPv4 addresses; those of the hosts are on their loopbacks."""
    with brought_up(Stage()) as made:
        for host, link, number in ((made.node, "up0", 1), (made.tor, "down0", 2)):
            host.run(["ip", "link", "set", "lo", "up"])
            host.run(["ip", "-4", "address", "flush", "dev", link])
            host.run(["ip", "address", "add", f"10.90.0.{number}/32", "dev", "lo"])
        yield made


def gateways(stage: Stage, prefix: str) -> set[str]:
    """Where the node's kernel sends packets to a prefix."""
    shown = stage.kernel(f"-{6 if ':' in prefix else 4} -j route show {prefix} proto 108")
    hops = [hop for row in json.loads(shown or "[]") for hop in row.get("nexthops", [row])]
    return {hop.get("gateway") or hop["via"]["host"] for hop in hops if "gateway" in hop or "via" in hop}


@pytest.mark.parametrize("kind", ["frr", "bird", "gobgp"])
def test_ipv4_prefixes_have_ipv6_next_hops_both_ways(stage: Stage, kind: str) -> None:
    """RFC 8950. The control: without the capability there is no way between the IPv4 prefixes."""
    far = stage.far_side(kind)
    far.fib = True
    session = far_session(6, versions=(4, 6), extended=True)
    far.start([session], [Originated(prefix, next_hop=FAR_ADDRESS[6]) for prefix in BEHIND_PREFIX.values()])
    spec = {"families": ["IPv4", "IPv6"]}
    stage.declare(
        "node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[6], extendedNextHop=True, **spec)
    )
    stage.start_speaker()
    stage.start_agent()
    for version in (4, 6):
        prefix, block = BEHIND_PREFIX[version], BLOCKS[version]
        stage.until(lambda prefix=prefix: gateways(stage, prefix), f"{prefix} in the node's kernel")  # type: ignore[misc]
        assert gateways(stage, prefix) == {FAR_ADDRESS[6]}
        stage.until(lambda block=block: far.seen(block), f"{block} at the far side")  # type: ignore[misc]
        assert far.seen(block).next_hop == NODE_ADDRESS[6]  # type: ignore[union-attr]
    stage.until(lambda: "10.244.1.0/24" in stage.tor.run(["ip", "route"]).stdout, "the block in its kernel")
    stage.stream(4, PACKETS)
    assert stage.streamed(4, PACKETS / 1000 + 20) == {"stream-node": 0, "stream-behind": 0}
    assert stage.status()["problems"] == []
    if kind == "gobgp":
        return  # it sends the next hop it was told to, whatever the other side can read
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[6], **spec))
    stage.until(
        lambda: (seen := far.seen(BLOCKS[4])) is None or seen.next_hop == NODE_ADDRESS[4],
        "the IPv6 next hop to go",
    )
    # We ended the session: that the far side's F bit is clear does not mean that it has restarted.
    assert "without its forwarding state" not in (stage.node.directory / "agent.log").read_text()
    stage.until(
        lambda: stage.learned().keys() == {BEHIND_PREFIX[6]}, "IPv4 prefixes to go, and IPv6 ones to stay"
    )


def test_a_peer_that_does_not_take_ipv6_next_hops_hears_no_ipv4_prefix(stage: Stage) -> None:
    """Else it would answer with a NOTIFICATION; the status says why it hears none."""
    far = stage.far_side("frr")
    session = far_session(6, versions=(4, 6))
    far.start([session], [Originated(ORIGINATED[6])])
    spec = peer("far", FAR_ADDRESS[6], extendedNextHop=True)
    stage.declare("node.yaml", NODE, configuration(), spec)
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: far.seen(BLOCKS[6]), "the IPv6 block")
    stage.until(lambda: any("RFC 8950" in each for each in stage.status()["problems"]), "the reason")
    assert far.seen(BLOCKS[4]) is None
    assert stage.peers()[FAR_ADDRESS[6]]["flaps"] == 0


UNNUMBERED = """
hostname far
router bgp 65002
 bgp router-id 10.90.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
 neighbor LINKS peer-group
 neighbor LINKS remote-as external
 neighbor LINKS timers 3 9
 neighbor LINKS timers connect 1
 neighbor LINKS password right-one
 neighbor LINKS ttl-security hops 1
 neighbor down0 interface peer-group LINKS
 neighbor down1 interface peer-group LINKS
 address-family ipv4 unicast
  neighbor LINKS activate
  network 10.98.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor LINKS activate
  network fd98::/64
 exit-address-family
"""


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "stringData": {"password": "right-one"},
}


def on_interface(interface: str, *, any_as: bool = False) -> dict[str, Any]:
    secret = {"secretKeyRef": {"name": "bgp", "key": "password"}}
    declared = peer(interface, "", interface=interface, password=secret, gtsm=True)
    del declared["spec"]["address"]
    if any_as:
        del declared["spec"]["asNumber"]
    return declared


def link_local(host: Host, link: str) -> str:
    (shown,) = json.loads(
        host.run(["ip", "-j", "-6", "address", "show", "dev", link, "scope", "link"]).stdout
    )
    return str(shown["addr_info"][0]["local"])


def two_links_without_addresses(stage: Stage) -> Frr:
    """Between the node and FRR, which looks for its neighbours on both."""
    stage._net(stage.node, f"link add up1 type veth peer name down1 netns {stage.tor.pid}")
    for host, side in ((stage.node, "up"), (stage.tor, "down")):
        host.run(["ip", "-6", "address", "flush", "dev", f"{side}0", "scope", "global"])
        host.run(["ip", "link", "set", f"{side}1", "up"])
    far = stage.far_side("frr")
    assert isinstance(far, Frr)
    config = far.write("frr.conf", UNNUMBERED)
    far.write("vtysh.conf", "")
    far.spawn("zebra", ["zebra", "-A", "127.0.0.1", "-P", "0"])
    far.wait(far.path("/run/frr/zserv.api").exists, "zebra")
    far.spawn("bgpd", ["bgpd", "-f", config, "-A", "127.0.0.1", "-P", "0"])
    return far


def test_unnumbered_peering_over_two_links(stage: Stage) -> None:
    """Each side finds the other by its router advertisements, and both links are used for both families.

    On one of them the node is told the AS number; on the other it takes whatever AS the router is of. Both
    have MD5 and GTSM.
    No packet is lost while the agent is killed. A link that fails takes its next hop along and no other.
    """
    far = two_links_without_addresses(stage)
    stage.declare("secret.yaml", SECRET)
    stage.declare("node.yaml", NODE, configuration(), on_interface("up0"), on_interface("up1", any_as=True))
    stage.start_speaker()
    stage.start_agent()
    theirs = [link_local(stage.tor, link) for link in ("down0", "down1")]
    ours = [link_local(stage.node, link) for link in ("up0", "up1")]

    def on_both(version: int) -> bool:
        shown = stage.tor.run(["ip", f"-{version}", "route", "show", BLOCKS[version]]).stdout
        return gateways(stage, BEHIND_PREFIX[version]) == set(theirs) and all(one in shown for one in ours)

    stage.until(lambda: on_both(4) and on_both(6), "both families over both links, both ways", 60)
    rows = stage.peers()
    assert {address: (row["name"], row["localAddress"]) for address, row in rows.items()} == {
        theirs[0]: ("up0", ours[0]),
        theirs[1]: ("up1", ours[1]),
    }
    for version in (4, 6):
        stage.stream(version, PACKETS)
        stage.node.kill("agent", signal.SIGKILL)
        stage.until(lambda: not stage.node.alive("agent"), "the agent to die")
        stage.start_agent()
        stage.established(*theirs)
        assert stage.streamed(version, PACKETS / 1000 + 20) == {"stream-node": 0, "stream-behind": 0}
    assert [(row["flaps"], row["asNumber"]) for row in stage.peers().values()] == [(0, 65002)] * 2
    assert far.seen(BLOCKS[4])
    stage.tor.run(["ip", "link", "set", "down1", "down"])
    stage.until(lambda: gateways(stage, BEHIND_PREFIX[4]) == {theirs[0]}, "the other link alone")
    # The control: nobody is on a link where no router is heard.
    stage.kernel("link add quiet0 type veth peer name quiet1")
    stage.kernel("link set quiet0 up")
    stage.declare("node.yaml", NODE, configuration(), on_interface("quiet0"))
    stage.until(
        lambda: all(row["state"] == "refused" for row in stage.peers().values()), "the sessions to go"
    )
    stage.until(lambda: any("noNeighbour" in each for each in stage.status()["problems"]), "the reason")


BIRD_UNNUMBERED = """
log stderr all;
router id 10.90.0.2;
protocol device { scan time 5; }
protocol radv { interface "down0" { min ra interval 3; max ra interval 10; default lifetime 0; }; }
protocol kernel kernel4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel kernel6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static static4 { ipv4; route 192.168.7.0/24 blackhole; }
protocol static static6 { ipv6; route fd77::/64 blackhole; }
protocol bgp nodes {
  local as 65002;
  neighbor range fe80::/10 as 65001;
  interface "down0";
  dynamic name "node";
  direct;
  hold time 9;
  ipv4 { import all; export where source = RTS_STATIC; next hop self; extended next hop on; };
  ipv6 { import all; export where source = RTS_STATIC; next hop self; };
}
"""


def test_unnumbered_peering_with_bird(stage: Stage) -> None:
    """Its radv protocol advertises it; it takes whoever comes from the link."""
    for host, link in ((stage.node, "up0"), (stage.tor, "down0")):
        host.run(["ip", "-6", "address", "flush", "dev", link, "scope", "global"])
    far = stage.far_side("bird")
    far.spawn("bird", ["bird", "-f", "-c", far.write("bird.conf", BIRD_UNNUMBERED)])
    declared = on_interface("up0")
    del declared["spec"]["password"], declared["spec"]["gtsm"]
    stage.declare("node.yaml", NODE, configuration(), declared)
    stage.start_speaker()
    stage.start_agent()
    theirs, ours = link_local(stage.tor, "down0"), link_local(stage.node, "up0")

    def both_ways(version: int) -> bool:
        shown = stage.tor.run(["ip", f"-{version}", "route", "show", BLOCKS[version]]).stdout
        return gateways(stage, ORIGINATED[version]) == {theirs} and ours in shown

    stage.until(lambda: both_ways(4) and both_ways(6), "both families both ways", 60)


RADV_ONLY = """
log stderr all;
router id 10.90.0.2;
protocol device { scan time 5; }
protocol radv { interface "down0" { min ra interval 3; max ra interval 10; default lifetime 0; }; }
"""

GOBGP_UNNUMBERED = """
[global.config]
as = 65002
router-id = "10.90.0.2"
[[neighbors]]
[neighbors.config]
neighbor-interface = "down0"
peer-as = 65001
[neighbors.ttl-security.config]
enabled = true
ttl-min = 255
[neighbors.timers.config]
hold-time = 9
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"""


def test_unnumbered_peering_with_gobgp(stage: Stage) -> None:
    """GoBGP sends no router advertisements: BIRD's radv protocol does. Its neighbour is whom the kernel knows
    on the link when it starts. With GTSM; of MD5 it (3.10) sets no key for a neighbour on an interface."""
    for host, link in ((stage.node, "up0"), (stage.tor, "down0")):
        host.run(["ip", "-6", "address", "flush", "dev", link, "scope", "global"])
    theirs, ours = link_local(stage.tor, "down0"), link_local(stage.node, "up0")
    far = stage.far_side("gobgp")
    assert isinstance(far, Gobgp)
    declared = on_interface("up0")
    del declared["spec"]["password"]
    stage.declare("node.yaml", NODE, configuration(), declared)
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: any("noNeighbour" in each for each in stage.status().get("problems", ())), "the wait")
    far.spawn("bird", ["bird", "-f", "-c", far.write("bird.conf", RADV_ONLY)])
    stage.until(lambda: theirs in stage.peers(), "the router to be found")
    known = ["ip", "-6", "neigh", "show", "dev", "down0"]
    stage.until(lambda: ours in stage.tor.run(known).stdout, "the node to have spoken to it")
    far.start_with(GOBGP_UNNUMBERED)
    for prefix in ORIGINATED.values():
        far.run(["gobgp", "global", "rib", "add", prefix, "-a", family(prefix), "nexthop", theirs])

    def both_ways(version: int) -> bool:
        seen = far.seen(BLOCKS[version])
        return gateways(stage, ORIGINATED[version]) == {theirs} and seen is not None and ours in seen.next_hop

    stage.until(lambda: both_ways(4) and both_ways(6), "both families both ways", 60)
    assert [row["name"] for row in stage.peers().values()] == ["up0"]


def family(prefix: str) -> str:
    return "ipv6" if ":" in prefix else "ipv4"
