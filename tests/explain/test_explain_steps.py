"""What stops packets and cannot be had in a lab, and what the shape of an answer promises."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from l3net.bgp.verdict import Export
from l3net.doctor.findings import NodeLook
from l3net.explain.address import AddressFacts, explain_address
from l3net.explain.announced import peer_steps
from l3net.explain.ends import end_steps
from l3net.explain.facts import End, Hop, PeerTold, Way
from l3net.explain.host import host_steps, strict_steps
from l3net.explain.steps import Mark, any_bad
from l3net.explain.words import OF_EXPORT, OF_REASON
from l3net.services.verdicts import Reason

POD = ip_address("10.244.1.2")
MAC = "0a:58:0a:f4:01:02"
PREFIX = ip_network("192.0.2.1/32")
HOP = Hop("l3net0", None, "permanent", MAC, port="l3v1")
HERE = End(POD, "80", "default/web", "n1", here=True, attached=True, mac=MAC)
PEER = PeerTold(
    "tor",
    ip_address("10.0.0.1"),
    False,
    True,
    "established",
    "9 s",
    Export.ANNOUNCED,
    said=True,
    interface="up0",
)


def end(hop: Hop, **changes: object) -> End:
    return replace(HERE, way=Way("unicast", ip_network("10.244.1.0/24"), 2, (hop,)), **changes)  # type: ignore[arg-type]


ENDS = [
    ("", end(HOP)),
    ("", end(replace(HOP, neighbour=""))),
    ("portGone", end(replace(HOP, port=""))),
    ("portDown", end(replace(HOP, port_forwards=False))),
    ("neighbourWrong", end(replace(HOP, link_address="0a:58:00:00:00:09"))),
    ("linkDown", end(replace(HOP, carrier=False))),
    ("neighbourFailed", end(replace(HOP, neighbour="incomplete"), here=False)),
    ("endpointGone", end(HOP, attached=False)),
    ("noRoute", replace(HERE, here=False, way=Way("none"))),
    ("blackhole", replace(HERE, here=False, way=Way("prohibit"))),
    ("policy", end(HOP, allowed=False, decision="Denied: by rule 1.")),
    ("foreignFirewall", end(HOP, dropped="a rule", surely=True)),
    ("", end(HOP, dropped="a rule that may", surely=False)),
    ("", replace(HERE, way=Way("unknown"))),
]


@pytest.mark.parametrize(("cause", "found"), ENDS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_thing_that_keeps_an_endpoint_from_being_reached_is_named(cause: str, found: End) -> None:
    steps = list(end_steps(found, "n1", 1500))
    assert [step.cause for step in steps if step.mark is Mark.BAD] == ([cause] if cause else [])
    assert all(step.advice for step in steps if step.mark is Mark.BAD)


def test_a_pod_by_way_of_a_gateway_is_a_route_astray_and_the_default_route_alone_is_no_answer() -> None:
    astray = end(replace(HOP, gateway=ip_address("10.0.0.1"), link_address="0a:00:00:00:00:01"))
    assert [step.cause for step in end_steps(astray, "n1") if step.mark is Mark.BAD] == ["routeAstray"]
    way = Way("unicast", ip_network("0.0.0.0/0"), 3, (Hop("up0", ip_address("10.0.0.1"), "reachable", MAC),))
    far = End(POD, "80", node="n2", way=way, block=True)
    answer = explain_address(AddressFacts(far, "n1", (ip_network("10.244.1.0/24"), "n2"))).answer()
    assert (answer["healthy"], answer["sure"]) == (True, False)
    assert "; but no route to n2's block has been learned" in answer["answer"]
    sure = explain_address(AddressFacts(replace(far, block=False), "n1")).answer()
    assert (sure["healthy"], sure["sure"]) == (True, True)


def test_what_others_have_put_in_and_nobody_judges_hedges_the_answer() -> None:
    facts = AddressFacts(end(HOP), "n1", unjudged=("2 routing rules (`ip rule`)",))
    answer = explain_address(facts).answer()
    assert (answer["healthy"], answer["sure"]) == (True, False)
    assert "is not judged: 2 routing rules" in answer["answer"]


def test_of_several_equal_ways_one_that_fails_stops_not_all() -> None:
    hops = (Hop("up0", POD, "failed"), Hop("up1", POD, "reachable", MAC))
    found = replace(HERE, here=False, attached=False, mac="", way=Way("unicast", PREFIX, 108, hops))
    assert not any_bad(end_steps(found, "n1"))
    assert "neighbourFailed" in [step.cause for step in end_steps(found, "n1")]


def test_a_link_with_a_smaller_mtu_than_pods_have_is_worth_a_note() -> None:
    assert "mtu" in [step.cause for step in end_steps(end(replace(HOP, mtu=1400)), "n1", 1500)]
    assert "mtu" not in [step.cause for step in end_steps(end(replace(HOP, mtu=1500)), "n1", 1500)]


@pytest.mark.parametrize(
    ("look", "cause", "mark"),
    [
        (NodeLook(conntrack=(1000, 1000)), "conntrackFull", Mark.BAD),
        (NodeLook(conntrack=(950, 1000)), "conntrackFull", Mark.NOTE),
        (NodeLook(conntrack=(10, 1000)), "", Mark.OK),
        (NodeLook(forwarding={4: True, 6: False}), "forwardingOff", Mark.BAD),
        (NodeLook(not_forwarding=("up0",)), "forwardingOff", Mark.BAD),
    ],
)
def test_what_of_a_host_stops_packets(look: NodeLook, cause: str, mark: Mark) -> None:
    assert [(step.cause, step.mark) for step in host_steps(look, "n1")] == ([(cause, mark)] if cause else [])


def test_strict_filters_matter_where_packets_come_in_by_another_link_than_answers_leave() -> None:
    look = NodeLook(strict_rp_filter=("up0", "up1"))
    assert any_bad(strict_steps(look, frozenset({"up0", "up1"}), frozenset({"up0"}), "n1"))
    assert not any_bad(strict_steps(look, frozenset({"up0"}), frozenset({"up0"}), "n1"))
    assert not any_bad(strict_steps(NodeLook(), frozenset({"up0"}), frozenset({"up1"}), "n1"))


def test_one_peer_that_is_told_suffices_and_none_is_bad() -> None:
    down = replace(
        PEER, name="tor2", established=False, state="hold timer expired", verdict=Export.SESSION_DOWN
    )
    assert not any_bad(peer_steps(PREFIX, [PEER, down]))
    assert any_bad(peer_steps(PREFIX, [down]))
    assert [step.cause for step in peer_steps(PREFIX, [])] == ["noPeer"]
    assert [step.cause for step in peer_steps(PREFIX, [replace(PEER, mesh=True)])] == ["noPeer"]
    assert [step.cause for step in peer_steps(PREFIX, [replace(down, path_failed=True)])] == ["bfdDown"]
    assert [step.cause for step in peer_steps(PREFIX, [replace(PEER, said=False)])] == ["queued"]


def test_every_verdict_has_words() -> None:
    assert set(Reason) - set(OF_REASON) == {Reason.ADVERTISE}
    assert set(Export) - set(OF_EXPORT) == {Export.ANNOUNCED}


def test_the_first_step_that_is_bad_is_the_answer_and_all_are_told() -> None:
    answer = explain_address(
        AddressFacts(end(replace(HOP, port="")), "n1", (PREFIX, "n1"), (PREFIX, []))
    ).answer()
    assert answer["cause"] == "portGone"
    assert answer["answer"].endswith(answer["steps"][1]["detail"])
    assert [step["cause"] for step in answer["steps"] if step["verdict"] == "bad"] == ["portGone", "noPeer"]
    assert answer["healthy"] is False
