"""What an EgressIP is for leaves with its address or not at all, whatever tracking makes of a packet."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from l3net.agent.egress_connections import leaves_wrong
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.model import NO_EGRESS, EgressPaths, EgressRule, Tracked
from packets.kernel_node import twin
from packets.outcomes import Delivered, Dropped, Forwarded
from packets.packet import Packet, packet
from packets.stack import SimStack
from packets.table import SimTable

#: An egress address; a pod of this node, one of another that leaves here, one that does not; somebody
#: outside; where all pods are, and this node's.
CASES = {
    4: ("198.51.100.10", "10.1.1.2", "10.1.2.3", "10.1.2.9", "192.0.2.9", "10.1.0.0/16", "10.1.1.0/24"),
    6: (
        *("2001:db8:e::10", "fd00:1:1::2", "fd00:1:2::3", "fd00:1:2::9", "2001:db8:c::9"),
        *("fd00:1::/32", "fd00:1:1::/120"),
    ),
}


class Node:
    """One that holds the address, for a pod of its own and one of another node."""

    def __init__(self, version: int, paths: EgressPaths | None = None) -> None:
        address, own, others, self.stranger, self.outside, pods, block = CASES[version]
        self.address, self.own, self.others = address, own, others
        rule = EgressRule("out", (), ip_address(address), "n1")
        self.paths = EgressPaths(
            True, {ip_address(own): (rule,)}, {ip_address(others): (rule,)}, frozenset((ip_address(address),))
        )
        ranges = frozenset((ip_network(pods),))
        plan = FirewallPlan(blocks=frozenset((ip_network(block),)), inside=ranges, pod_ranges=ranges)
        self.before = SimTable.of(ruleset(plan))
        self.after = SimTable.of(ruleset(replace(plan, egress=self.paths)))
        self.table = self.after
        self.stack = SimStack(twin(), lambda: self.table, lambda: {ip_address(own): "its pod"})

    def sent(self, source: str, link: str, sent: Packet | None = None) -> str | None:
        """The source that it leaves with, None if it does not."""
        outcomes = self.stack.receive(sent or packet(source, self.outside, dport=80), link)
        kinds = {type(each) for each in outcomes}
        assert kinds in ({Dropped}, {Forwarded})
        first = outcomes[0]
        if not isinstance(first, Forwarded):
            return None
        return str(self.stack.take(first).packet.source)


@pytest.mark.parametrize("version", CASES)
def test_what_tracking_calls_invalid_does_not_leave(version: int) -> None:
    node = Node(version)
    for source, link in ((node.own, "l3net0"), (node.others, "l3nvx0")):
        good = packet(source, node.outside, dport=80)
        assert node.sent(source, link) == node.address
        assert node.sent(source, link, replace(good.following(), in_window=False)) is None
    node = Node(version)
    node.table = node.before  # the control: nothing is to leave with another address
    good = packet(node.own, node.outside, dport=80)
    assert node.sent(node.own, "l3net0") == node.own
    assert node.sent(node.own, "l3net0", replace(good.following(), in_window=False)) == node.own


@pytest.mark.parametrize("version", CASES)
def test_a_flow_that_is_older_than_the_address_does_not_go_on(version: int) -> None:
    node = Node(version)
    for source, link in ((node.own, "l3net0"), (node.others, "l3nvx0"), (node.stranger, "l3nvx0")):
        node.table = node.before
        assert node.sent(source, link) == source
        node.table = node.after
        following = packet(source, node.outside, dport=80).following()
        assert node.sent(source, link, following) is None
    # What somebody outside began is answered by the pod's own address.
    asked = packet(node.outside, node.own, sport=999, dport=80)
    (came,) = node.stack.receive(asked, "up0")
    assert isinstance(came, Delivered)
    node.stack.take(came)
    assert node.sent(node.own, "l3net0", asked.answer()) == node.own


@pytest.mark.parametrize("version", CASES)
def test_connections_that_leave_wrong_end_on_the_node_that_holds_the_address_too(version: int) -> None:
    node = Node(version)
    address, own, others, outside = map(ip_address, (node.address, node.own, node.others, node.outside))
    inside = [ip_network(CASES[version][5])]
    for pod in (own, others):
        for seen_as, wrong in (
            (address, False),
            (pod, True),
            (ip_address(node.stranger), True),
            (None, False),
        ):
            tracked = Tracked(17, pod, 1234, outside, 80, seen_as=seen_as)
            assert leaves_wrong(tracked, node.paths, inside) is wrong, (pod, seen_as)
            assert not leaves_wrong(replace(tracked, destination=own), node.paths, inside)
        # Where no rule is for it any more a new one is begun.
        assert leaves_wrong(Tracked(17, pod, 1234, outside, 80, seen_as=address), NO_EGRESS, inside)
