"""What lies around l3net: neighbours, other proxies, what has run out; judged from made facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from l3net.bgp.verdict import Export
from l3net.doctor.findings import NodeLook, Rival
from l3net.explain.address import AddressFacts, explain_address
from l3net.explain.announced import peer_steps
from l3net.explain.diversion import Diversion, diversion_steps
from l3net.explain.ends import back_steps, end_steps, passage_steps
from l3net.explain.facts import End, Hop, Passage, PeerTold, Way
from l3net.explain.foreign import Diverted
from l3net.explain.host import rival_steps
from l3net.explain.shortage import full, full_step, unserved, unserved_steps
from l3net.explain.steps import Mark, Step
from l3net.ipam.lease import Usage
from l3net.model import Family, IpPool, Namespace, ObjectName, PoolUse, Service
from l3net.naming import LOAD_BALANCER_CLASS

ROUTER, POD, SERVICE = (ip_address(each) for each in ("10.0.0.1", "10.244.2.2", "10.96.0.10"))
MAC, OTHER = "0a:00:00:00:00:01", "0a:00:00:00:00:02"
HOP = Hop("up0", ROUTER, "reachable", MAC, answers=(MAC,))
PEER = PeerTold(
    "tor",
    ROUTER,
    False,
    True,
    "established",
    "9 s",
    Export.ANNOUNCED,
    said=True,
    hop=replace(HOP, gateway=None),
)


def causes(steps: list[Step]) -> list[str]:
    assert all(step.advice for step in steps if step.mark is Mark.BAD)
    return [step.cause for step in steps if step.mark is Mark.BAD]


NEIGHBOURS = [
    ((MAC,), []),
    ((), []),
    (None, []),
    ((OTHER,), ["neighbourStale"]),
    ((MAC, OTHER), ["duplicateAddress"]),
]


@pytest.mark.parametrize(("answers", "found"), NEIGHBOURS)
def test_who_answers_on_the_link_is_held_against_the_neighbour_entry(
    answers: tuple[str, ...] | None, found: list[str]
) -> None:
    hop = replace(HOP, answers=answers)
    way = Way("unicast", ip_network("10.244.2.0/24"), 3, (hop,))
    assert causes(list(end_steps(End(POD, node="n2", way=way), "n1"))) == found
    assert causes(list(back_steps(POD, way))) == found
    prefix = ip_network("192.0.2.1/32")
    assert causes(peer_steps(prefix, [replace(PEER, hop=replace(hop, gateway=None))])) == found
    two = Way("unicast", ip_network("10.244.2.0/24"), 3, (hop, HOP))  # of two ways one takes a share alone
    assert causes(list(end_steps(End(POD, node="n2", way=two), "n1"))) == []


def test_a_speaker_that_is_away_is_named_and_no_session() -> None:
    away = replace(PEER, established=False, speaker=False, verdict=Export.SESSION_DOWN)
    assert causes(peer_steps(ip_network("192.0.2.1/32"), [away])) == ["speakerDown"]
    assert causes(peer_steps(ip_network("192.0.2.1/32"), [replace(away, speaker=True)])) == ["sessionDown"]


def test_another_host_with_the_nodes_address_comes_before_all_else() -> None:
    look = NodeLook(rivals=(Rival("10.0.0.2", "up0", (OTHER,)),))
    [step] = rival_steps(look, "n1")
    assert (step.cause, step.mark) == ("duplicateAddress", Mark.BAD)
    assert OTHER in step.seen
    assert not list(rival_steps(NodeLook(), "n1"))


def test_large_packets_that_are_lost_stop_packets_and_those_that_are_told_of_do_not() -> None:
    way = Way("unicast", ip_network("10.244.2.0/24"), 3, (HOP,))
    end = End(POD, node="n2", way=way)

    def marks(passage: Passage | None, end: End = end) -> list[tuple[Mark, bool]]:
        steps = end_steps(replace(end, passage=passage), "n1")
        return [(step.mark, step.hedge) for step in steps if step.cause == "mtu"]

    assert marks(None) == marks(Passage(1500)) == []
    assert marks(Passage(1500, lost=True)) == [(Mark.BAD, False)]
    assert marks(Passage(1500, told=1400)) == [(Mark.NOTE, False)]
    assert marks(Passage(1500, lost=True), replace(end, node="")) == [(Mark.NOTE, True)], "beyond the cluster"


def test_what_answers_nothing_is_not_said_to_be_reached_without_a_but() -> None:
    """A pod or node may have a policy against echo requests; of others nobody here knows that they exist."""
    way = Way("unicast", ip_network("0.0.0.0/0"), 3, (HOP,))
    silent = End(ip_address("192.0.2.9"), way=way, passage=Passage(1500, silent=True))
    said = {
        "beyond the cluster": silent,
        "of a node's block, and no pod": replace(silent, node="n2", block=True),
        "a pod": replace(silent, pod="default/a", node="n2", block=True),
        "a node": replace(silent, node="n2"),
        "one that answers": replace(silent, passage=Passage(1500)),
    }
    hedged = {
        what for what, end in said.items() if any(step.cause == "noEcho" for step in passage_steps(end))
    }
    assert hedged == {"beyond the cluster", "of a node's block, and no pod"}
    answer = explain_address(AddressFacts(silent, "n1")).answer()["answer"]
    assert answer.startswith("192.0.2.9 is reached from n1; but it answers no echo request"), answer


KEY = (SERVICE, "tcp", 80)
ENDPOINTS = {(POD, 8080)}
DIVERSIONS = [
    (Diverted("chain x", ((POD, 8080),)), "unicast", False, []),
    (Diverted("chain x", ((POD, 8081),)), "unicast", False, ["translatedElsewhere"]),
    (Diverted("chain x", ((POD, 8080), (ROUTER, 8080))), "unicast", False, ["translatedElsewhere"]),
    (Diverted("chain x", ((None, None),)), "unicast", False, []),
    (Diverted("chain x"), "unicast", False, ["untracked"]),
    (Diverted("chain x"), "local", False, ["heldLocally"]),
    (Diverted("chain x"), "local", True, []),
]


@pytest.mark.parametrize(("by", "kind", "listens", "found"), DIVERSIONS)
def test_what_others_take_first_is_well_where_it_comes_to_an_endpoint_or_a_program(
    by: Diverted, kind: str, listens: bool, found: list[str]
) -> None:
    steps = list(diversion_steps(Diversion(KEY, by, Way(kind), listens), ENDPOINTS, "default/web", "n1"))
    assert causes(steps) == found
    assert len(steps) == 1


def pool(cidr: str, use: PoolUse = PoolUse.LOAD_BALANCER) -> dict[str, IpPool]:
    return {"few": IpPool("few", (net := ip_network(cidr)), net.prefixlen, allowed_uses=frozenset({use}))}


def balanced(name: str, held: str = "", **more: object) -> Service:
    ips = (ip_address(held),) if held else ()
    made = Service(
        ObjectName("default", name), type="LoadBalancer", cluster_ips=(SERVICE,), load_balancer_ips=ips
    )
    return replace(made, **({"load_balancer_class": LOAD_BALANCER_CLASS} | more))  # type: ignore[arg-type]


WEB, FIRST = balanced("web"), balanced("first", "192.0.2.1")
ONE, TWO = pool("192.0.2.1/32"), pool("192.0.2.0/31")
PODS_ONLY = pool("10.244.0.0/16", PoolUse.PODS)
SHORTAGES = [
    (WEB, ONE, "poolExhausted"),
    (replace(WEB, load_balancer_class=None), ONE, "poolExhausted"),
    (WEB, TWO, "noBalancerAddress"),
    (WEB, PODS_ONLY, "noBalancerPool"),
    (replace(WEB, load_balancer_class=None), PODS_ONLY, ""),
    (replace(WEB, load_balancer_class="another.io/x"), ONE, ""),
    (replace(WEB, annotations={"l3net.io/load-balancer-ips": "192.0.2.1"}), ONE, "addressRefused"),
    (balanced("web", "192.0.2.0"), TWO, ""),
    (replace(WEB, type="ClusterIP"), ONE, ""),
]


@pytest.mark.parametrize(("service", "pools", "cause"), SHORTAGES)
def test_why_a_service_has_no_address_of_a_load_balancer(
    service: Service, pools: Mapping[str, IpPool], cause: str
) -> None:
    services = {each.name: each for each in (service, FIRST)}
    found = unserved(service, services, pools, {"default": Namespace("default")}, ())
    assert (found[1] if found else "") == cause
    steps = list(unserved_steps(found, "default/web", reached=False))
    assert causes(steps) == [cause] * (cause not in ("", "noBalancerAddress"))
    assert all(step.mark is Mark.NOTE for step in unserved_steps(found, "default/web", reached=True))


def test_a_node_without_a_free_address_is_named_by_family() -> None:
    room = [(Family.IPV4, 254, Usage(250, 4)), (Family.IPV6, 254, Usage(250, 3))]
    found = full(room)
    assert len(found) == 1 and "IPv4" in found[0] and "250 are leased, 4" in found[0]
    assert full_step("default/web-1", "n1", found).cause == "poolExhausted"
