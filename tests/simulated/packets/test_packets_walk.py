"""Walks through small tables without a kernel: chance, and what connections do over time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address

import pytest
from sim_node import SimNode

from l3net.errors import KernelError
from l3net.model import EgressWay, Envelope, Stale
from l3net.naming import ENVELOPE
from packets.hashing import jhash
from packets.kernel_node import WAYS, twin
from packets.outcomes import Delivered, Dropped, Forwarded, Rejected
from packets.packet import RST, Packet, packet
from packets.small_tables import ANEW
from packets.stack import SimStack
from packets.table import SimTable

FAR = packet("192.0.2.9", "10.1.2.3", dport=80)
MANY = packet("10.1.1.2", "198.51.100.7", dport=80)


class Stack(SimStack):
    """By a text of its own and a clock that is set."""

    def __init__(
        self, *rules: str, before: str = "", exact: bool = False, ways: Collection[EgressWay] = ()
    ) -> None:
        chain = "\n".join(("chain f {", "type filter hook forward priority 0; policy accept;", *rules, "}"))
        self.table = SimTable.of(f"{ANEW}{before}{chain}\n}}\n")
        self.clock = 100.0
        now = lambda: self.clock  # noqa: E731
        super().__init__(twin(), lambda: self.table, dict, now=now, exact=exact, ways=lambda: ways)

    def through(self, sent: Packet, link: str = "up0") -> Packet:
        """The only thing that may become of it, which happens."""
        (only,) = self.receive(sent, link)
        assert isinstance(only, Forwarded), only
        return self.take(only).packet


def test_every_outcome_of_chance_is_told_once() -> None:
    stack = Stack("numgen random mod 3 vmap { 0 : drop, 1 : drop, 2 : accept }", "limit rate 5/second drop")
    outcomes = stack.receive(MANY, "l3net0")
    assert {type(each) for each in outcomes} == {Dropped, Forwarded}
    links = [(each.interface, str(each.gateway)) for each in outcomes if isinstance(each, Forwarded)]
    assert sorted(links) == [("up0", "192.0.2.2"), ("up1", "192.0.3.3")]
    assert all(any("route" in what for what, _ in each.chosen) for each in outcomes)


MARKED = """\
chain marking {
type filter hook prerouting priority -90;
ct direction original meta mark set meta mark & 0x0000ffff | 0x00050000
}
"""
HOLDS = """\
chain egress {
type nat hook postrouting priority 97;
iifname "l3nvx0" snat ip to 203.0.113.7
}
"""


def test_what_has_a_way_is_handed_to_the_node_that_the_gateway_stands_for() -> None:
    first, other = Stack(before=MARKED, ways=WAYS), Stack(before=HOLDS)
    sent = packet("10.1.2.3", "192.0.2.9", dport=80)
    (there,) = first.receive(sent, "l3net0")
    assert isinstance(there, Forwarded) and there.mark == 0x50000
    assert (there.interface, str(there.gateway)) == ("l3nvx0", "240.108.0.5")
    first.take(there)
    out = other.through(there.handed, "l3nvx0")
    assert (str(out.source), out.mark, out.ttl) == ("203.0.113.7", 0, sent.ttl - 2)
    back = other.through(out.answer())
    assert str(back.destination) == "10.1.2.3"
    assert first.through(back, "l3net0").mark == 0  # an answer has no way, whichever link it comes by
    without = Stack(before=MARKED).receive(sent, "l3net0")
    assert [each.interface for each in without if isinstance(each, Forwarded)] == ["up0"]


def test_the_ways_of_a_simulated_node_go_with_the_device() -> None:
    made = SimNode()
    with pytest.raises(KernelError):
        made.egress_ways.apply(WAYS, ENVELOPE, 1450)
    plan = Envelope("n1", "0a:6c:c0:00:02:01", ip_address("192.0.2.1"), 1500)
    for lose in (made.envelope.remove, lambda: setattr(made.envelope, "index", 41)):
        made.envelope.apply(plan)
        assert not made.egress_ways.ways
        made.egress_ways.apply(WAYS, ENVELOPE, 1450)
        assert made.egress_ways.ways == set(WAYS)
        lose()
        assert not made.egress_ways.ways
    made.egress_ways.apply([], ENVELOPE, 1450)


DRAWN = "{what} vmap {{ 0 : jump even, 1 : jump odd, 2 : jump even, 3 : jump odd }}"
TWO = "chain even {\nmeta mark set 2\n}\nchain odd {\nmeta mark set 1\n}\n"


def test_a_hash_is_one_number_however_often_it_is_asked_for() -> None:
    hashed = "jhash ip saddr . th sport mod 4 seed 0x5"
    again = f"{hashed} vmap {{ 0 : accept, 1 : drop, 2 : accept, 3 : drop }}"
    stack = Stack(DRAWN.format(what=hashed), again, before=TWO)
    outcomes = stack.receive(FAR, "up0")
    assert [(type(each), each.packet.mark) for each in outcomes] == [(Forwarded, 2), (Dropped, 1)]
    stack.exact = True
    (only,) = stack.receive(FAR, "up0")
    assert only in outcomes
    # The control: what is drawn by lot is drawn anew.
    drawn = "numgen random mod 4"
    stack = Stack(DRAWN.format(what=drawn), again.replace(hashed, drawn), before=TWO)
    assert len(stack.receive(FAR, "up0")) == 4


def test_jhash_is_what_the_kernel_has() -> None:
    """The last steps of the function alone do not tell whether longer keys are mixed."""
    found = {jhash(bytes(range(length)), 7) for length in range(40)}
    assert len(found) == 40 and all(0 <= each < 1 << 32 for each in found)


def test_connections_end_by_time_and_by_reset() -> None:
    stack = Stack("ct state established accept", "ct state new tcp dport 80 accept", "drop")
    stack.through(FAR)
    answer = FAR.answer()
    stack.clock += 119
    stack.through(answer, "up1")
    stack.clock += 100_000
    stack.through(answer, "up1")
    assert isinstance(stack.receive(replace(answer, sport=81), "up1")[0], Dropped)
    stack.through(replace(FAR.following(), flags=RST))
    stack.clock += 11
    assert isinstance(stack.receive(answer, "up1")[0], Dropped) and len(stack.tracking) == 0
    stack.through(FAR)
    stack.clock += 121
    assert isinstance(stack.receive(answer, "up1")[0], Dropped)


def test_what_is_dropped_is_not_noted_and_what_is_only_looked_at_is_not_either() -> None:
    stack = Stack("tcp dport 80 drop")
    stack.take(stack.receive(FAR, "up0")[0])
    stack.receive(replace(FAR, dport=81), "up0")
    assert len(stack.tracking) == 0


NAT = """\
chain led {
type nat hook prerouting priority -100;
ip daddr 10.96.0.1 tcp dport 80 dnat ip to 10.1.2.3:8080
}
chain from {
type nat hook postrouting priority 100;
ct status dnat masquerade
}
"""
SERVICE = packet("192.0.2.9", "10.96.0.1", dport=80)


def test_a_taken_port_is_replaced_and_answers_find_back() -> None:
    stack = Stack(before=NAT)
    other = replace(SERVICE, source=ip_address("192.0.2.10"))
    first, second = stack.through(SERVICE), stack.through(other)
    assert first.source == second.source == ip_address("192.0.3.1")
    assert first.sport == 40000 and second.sport == 1024
    for asked, came in ((SERVICE, first), (other, second)):
        back = stack.through(came.answer(), "up1")
        assert (back.source, back.sport) == (asked.destination, asked.dport)
        assert (back.destination, back.dport) == (asked.source, asked.sport)
        assert stack.through(asked.following()).sport == came.sport


def test_an_error_is_told_of_what_its_hearer_has_sent() -> None:
    stack = Stack("ct state related accept", "ct state invalid drop", before=NAT)
    came = stack.through(SERVICE)
    error = stack.through(came.error(ip_address("10.1.2.3"), 3), "up1")
    assert error.destination == SERVICE.source and str(error.source) == "10.96.0.1"
    about = error.about
    assert about is not None and (about.source, about.sport) == (SERVICE.source, SERVICE.sport)
    assert (about.destination, about.dport) == (SERVICE.destination, SERVICE.dport)
    stranger = replace(came, sport=7).error(ip_address("10.1.2.3"), 3)
    assert isinstance(stack.receive(stranger, "up1")[0], Delivered | Dropped)


@pytest.mark.parametrize("by", ["forget", "end", "other"])
def test_connections_are_deleted_by_who_says_so(by: str) -> None:
    stack = Stack(before=NAT)
    stack.through(SERVICE)
    (tracked,) = stack.tracking.of({ip_address("10.1.2.3")}, set())
    assert (tracked.destination, tracked.port, tracked.source_port) == (ip_address("10.1.2.3"), 8080, 40000)
    if by == "end":
        stack.tracking.end([tracked])
    elif by == "forget":
        stale = Stale(6, frozenset({SERVICE.destination}), 80, kept=frozenset({(tracked.destination, 8081)}))
        assert stack.tracking.forget([stale], set()) == 1
    else:
        kept = Stale(6, frozenset({SERVICE.destination}), 80, kept=frozenset({(tracked.destination, 8080)}))
        untouched = Stale(6, frozenset({SERVICE.destination}), 80, untouched=True)
        own = Stale(6, own_in=frozenset())
        answered = Stale(6, answered_by=ip_address("10.1.2.4"))
        assert stack.tracking.forget([kept, untouched, own, answered], set()) == 0
    assert (len(stack.tracking) == 1) is (by == "other")


def test_hop_counts_end_a_loop() -> None:
    stack = Stack()
    looping = replace(FAR, ttl=3)
    for left in (2, 1):
        looping = stack.through(looping)
        assert looping.ttl == left
    (end,) = stack.receive(looping, "up0")
    assert isinstance(end, Rejected) and end.how == "time-exceeded"


def test_the_steps_tell_why() -> None:
    (end,) = Stack("tcp dport 80 counter drop").receive(FAR, "up0")
    assert isinstance(end, Dropped) and end.by == ("f", "tcp dport 80 counter drop")
    assert "dropped by f: tcp dport 80 counter drop" in str(end)
