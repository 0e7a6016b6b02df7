"""A connected eBGP peer's next hops are on its link, or lead nowhere: two uplinks, a default route by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, brought_up, peer
from stage import Stage

from l3net.naming import METRIC_BGP

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
NEAR = {4: "10.90.0.2", 6: "fd90::2"}
ELSEWHERE = {4: "10.91.0.2", 6: "fd91::2"}
#: The hold time: what goes before is gone by the link, not by the session's end.
HOLD = 9.0


class Uplinks(Stage):
    """The node has a second link to the same machine, and its default routes by that."""

    def up(self) -> None:
        super().up()
        self._net(self.node, f"link add up1 type veth peer name down1 netns {self.tor.pid}")
        for host, link, number in ((self.node, "up1", 1), (self.tor, "down1", 2)):
            self._net(host, f"link set {link} up")
            self._net(host, f"addr add 10.91.0.{number}/24 dev {link}")
            self._net(host, f"addr add fd91::{number}/64 dev {link} nodad")

    def peers_are(self, **spec: object) -> None:
        declared = (peer(f"tor{version}", address, **spec) for version, address in NEAR.items())
        self.declare("node.yaml", NODE, CONFIGURATION, *declared)

    def wanted(self) -> set[str]:
        """What the agent wants in the kernel, which takes away by itself what leads by a dead link."""
        return {row["prefix"] for row in self.status()["routes"]}

    def say(self, four: str, six: str) -> None:
        """The next hops that the router announces from now on."""
        self.vtysh(
            *("configure", "route-map other permit 10", f"set ip next-hop {four}"),
            *(f"set ipv6 next-hop global {six}", "exit", "router bgp 65002"),
            *("address-family ipv4 unicast", "neighbor 10.90.0.1 route-map other out", "exit"),
            *("address-family ipv6 unicast", "neighbor fd90::1 route-map other out"),
        )

    def said(self) -> set[str]:
        """The next hops that the node has heard of."""
        return {row["nextHop"] for prefix, row in self.paths().items() if prefix in LEARNED}

    def all_learned(self, by: dict[int, str]) -> None:
        def so() -> bool:
            learned = self.learned()
            return learned.keys() == LEARNED and set(learned.values()) == set(by.values())

        self.until(so, f"routes by {by}")


@pytest.fixture(scope="module")
def uplinks() -> Iterator[Uplinks]:
    with brought_up(Uplinks()) as stage:
        stage.start_tor()
        stage.vtysh("configure", "bgp route-map delay-timer 1")
        stage.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
        stage.start_speaker()
        stage.start_agent()
        stage.established(*NEAR.values())
        for version, address in ELSEWHERE.items():
            stage.kernel(f"-{version} route add default via {address}")
        yield stage


def carrier(stage: Uplinks, up: bool) -> None:
    stage.tor.run(["ip", "link", "set", "down0", "up" if up else "down"])
    if up:  # which it has lost
        stage.tor.run(["ip", "-6", "addr", "add", "fd90::2/64", "dev", "down0", "nodad"], check=False)


def admin(stage: Uplinks, up: bool) -> None:
    stage.kernel(f"link set up0 {'up' if up else 'down'}")
    if up:
        stage.node.run(["ip", "-6", "addr", "add", "fd90::1/64", "dev", "up0", "nodad"], check=False)


@pytest.mark.parametrize("switch", [carrier, admin])
def test_with_its_link_a_peers_routes_go_at_once_and_nowhere_else(
    uplinks: Uplinks, switch: Callable[[Uplinks, bool], None]
) -> None:
    stage = uplinks
    stage.peers_are()
    stage.established(*NEAR.values())
    stage.all_learned(NEAR)
    stage.node.spawn("monitor", ["ip", "monitor", "route"])
    seen = stage.node.log("monitor")

    def watched() -> bool:
        for verb in ("add", "del"):
            stage.kernel(f"route {verb} 198.51.100.9 via 10.91.0.2")
        return "198.51.100.9" in seen.read_text()

    stage.until(watched, "the monitor to see")
    began = time.monotonic()
    switch(stage, False)
    stage.until(lambda: not LEARNED & stage.wanted(), "no route to be wanted", HOLD / 2)
    stage.until(lambda: not stage.learned(), "all routes to go", HOLD / 2)
    assert time.monotonic() - began < HOLD / 2
    assert not [line for line in seen.read_text().splitlines() if "proto 108" in line and "up1" in line]
    rows = [row for row in stage.peers().values() if row["state"] == "established"]
    assert all(row["accepted"] == 0 for row in rows)
    assert {stage.paths()[each]["verdict"] for each in LEARNED & stage.paths().keys()} <= {"unresolved"}
    switch(stage, True)
    stage.established(*NEAR.values())
    stage.all_learned(NEAR)
    stage.node.run(["kill", str(stage.node.daemon_pid("monitor"))])


def test_over_several_hops_the_way_is_looked_up(uplinks: Uplinks) -> None:
    """The control: what a peer several hops away announces moves to whatever leads there."""
    stage = uplinks
    stage.peers_are(multihop=2)
    stage.established(*NEAR.values())
    stage.all_learned(NEAR)
    for version, near in NEAR.items():  # more specific than the link's own
        stage.kernel(f"-{version} route add {near} via {ELSEWHERE[version]}")
    stage.all_learned(ELSEWHERE)
    stage.peers_are()
    stage.until(lambda: not stage.learned(), "no route where the peer is said to be on a link")
    for version, near in NEAR.items():
        stage.kernel(f"-{version} route del {near} via {ELSEWHERE[version]}")
    stage.established(*NEAR.values())
    stage.all_learned(NEAR)
    assert stage.status()["problems"] == []


def test_a_third_partys_next_hop_is_on_the_link_too(uplinks: Uplinks) -> None:
    stage = uplinks
    stage.peers_are(thirdPartyNextHops=True)
    stage.established(*NEAR.values())

    stage.say("10.90.0.77", "fd90::77")
    stage.all_learned({4: "10.90.0.77", 6: "fd90::77"})
    for four, six in (("10.91.0.77", "fd91::77"), ("192.0.2.77", "2001:db8::77")):
        stage.say(four, six)
        stage.until(lambda said={four, six}: stage.said() == said, "the other next hops to be heard")
        stage.until(lambda: not stage.learned(), "routes to go")
        assert {stage.paths()[each]["verdict"] for each in LEARNED} == {"unresolved"}
        rows = stage.peers()
        counts = [(rows[near]["accepted"], rows[near]["refused"].get("unresolved")) for near in NEAR.values()]
        assert counts == [(0, 1), (0, 1)]
    stage.say("10.90.0.77", "fd90::77")
    stage.all_learned({4: "10.90.0.77", 6: "fd90::77"})
    assert {stage.paths()[each]["verdict"] for each in LEARNED} == {"accepted"}
    assert [stage.peers()[near]["accepted"] for near in NEAR.values()] == [1, 1]


def test_what_is_to_be_dropped_needs_no_way(uplinks: Uplinks) -> None:
    """RFC 7999, with a next hop as RFC 5635 has it: one that leads nowhere."""
    stage = uplinks
    stage.peers_are(thirdPartyNextHops=True, allowBlackhole=True)
    stage.established(*NEAR.values())
    stage.vtysh("configure", "route-map other permit 10", "set community blackhole additive")
    stage.say("192.0.2.77", "2001:db8::77")

    def dropped() -> set[str]:
        shown = stage.kernel("-4 route show proto 108") + stage.kernel("-6 route show proto 108")
        return {each for each in LEARNED if f"blackhole {each}" in shown}

    stage.until(lambda: dropped() == LEARNED, "both to be dropped")
    assert {stage.paths()[each]["verdict"] for each in LEARNED} == {"accepted"}
    stage.peers_are(thirdPartyNextHops=True)  # the control: of a peer that may not ask for it
    stage.until(lambda: not dropped(), "neither to be dropped")
    assert {stage.paths()[each]["verdict"] for each in LEARNED} == {"unresolved"}
    stage.vtysh("configure", "route-map other permit 10", "no set community")
    stage.say("10.90.0.77", "fd90::77")
    stage.all_learned({4: "10.90.0.77", 6: "fd90::77"})


def test_a_peer_that_is_on_no_link_is_named(uplinks: Uplinks) -> None:
    stage, far = uplinks, {4: "10.98.0.2", 6: "fd98::2"}
    several = [peer(f"far{version}", address) for version, address in far.items()]
    stage.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6, *several)

    def named() -> list[str]:
        return [each for each in stage.status()["problems"] if "is on no link of this node" in each]

    stage.until(lambda: len(named()) == 2, "the problems")
    assert all("give it `multihop`" in each for each in named())
    several = [peer(f"far{version}", address, multihop=2) for version, address in far.items()]
    stage.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6, *several)
    stage.until(lambda: not named(), "no problem")


def test_what_the_kernel_refuses_is_named_and_set_aside(uplinks: Uplinks) -> None:
    """A gateway that it knows more of than routes tell; IPv6 takes any, and refuses a place that is taken.
    A martian is refused before, by name."""
    stage = uplinks
    stage.peers_are(thirdPartyNextHops=True)
    stage.established(*NEAR.values())
    stage.say("10.90.0.77", "fd90::77")
    stage.all_learned({4: "10.90.0.77", 6: "fd90::77"})
    obstacles = (
        "-4 route {} broadcast 10.90.0.99 dev up0 table local",
        f"-6 route {{}} fd77::/64 via fd90::55 dev up0 proto static metric {METRIC_BGP}",
    )
    for obstacle in obstacles:
        stage.kernel(obstacle.format("replace"))
    stage.say("10.90.0.99", "fd90::99")

    def problem() -> str:
        return next((each for each in stage.status()["problems"] if each.startswith("routes: ")), "")

    stage.until(lambda: "(and 1 more)" in problem(), "both to be named")
    rows = {row["prefix"]: row for row in stage.status()["routes"]}
    assert [rows[each]["inKernel"] for each in LEARNED] == [False, False]
    for obstacle in obstacles:
        stage.kernel(obstacle.format("del"))
    stage.all_learned({4: "10.90.0.99", 6: "fd90::99"})
    assert problem() == ""
    stage.say("10.90.0.255", "fd90::")
    stage.until(lambda: stage.said() == {"10.90.0.255", "fd90::"}, "the martians to be heard")
    assert {stage.paths()[each]["verdict"] for each in LEARNED} == {"nextHopInvalid"}
    stage.until(lambda: not stage.learned(), "routes to go")
    assert problem() == ""
    stage.say("10.90.0.77", "fd90::77")
    stage.all_learned({4: "10.90.0.77", 6: "fd90::77"})
