"""Mesh and route reflectors: who speaks to whom, what is reflected, and no loops."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from bgp_facts import path
from test_bgp_sessions import RACK_A, cluster, node, source

from l3net.announce.source import NodeView
from l3net.announce.sources import desired
from l3net.bgp.adj_rib_out import passes_on
from l3net.bgp.exabgp.commands import announce
from l3net.bgp.loc_rib import Candidate
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import Protected
from l3net.bgp.sessions import Session, sessions
from l3net.bgp.topology import ELECTED, reflectors, wanted_mesh_peers
from l3net.bgp.verdict import Verdict
from l3net.model import ClusterState, Topology

CLUSTER_ID = IPv4Address("10.0.0.1")


def reflected(count: int = 5, **changes: object) -> ClusterState:
    """n1 and n2 reflect, chosen by label."""
    nodes = tuple(node(number, labels={"rack": "a"} if number < 3 else {}) for number in range(1, count + 1))
    settings: dict[str, object] = {"topology": Topology.REFLECTORS, "reflector_selector": RACK_A}
    return cluster(nodes=nodes, **(settings | changes))


def peers_of(state: ClusterState, me: str) -> set[str]:
    return set(wanted_mesh_peers(state, me))


def test_clients_speak_to_reflectors_and_reflectors_to_all() -> None:
    state = reflected()
    assert peers_of(state, "n4") == {"n1", "n2"}
    assert peers_of(state, "n1") == {"n2", "n3", "n4", "n5"}


def test_the_mesh_is_symmetric_in_every_topology() -> None:
    for state in (reflected(), reflected(topology=Topology.MESH), reflected(7, reflector_selector=None)):
        for one in state.nodes:
            for other in state.nodes:
                assert (other in peers_of(state, one)) == (one in peers_of(state, other))


def test_auto_takes_to_reflectors_as_the_cluster_grows() -> None:
    small = reflected(5, topology=Topology.AUTO, reflectors_from=6)
    assert peers_of(small, "n4") == {"n1", "n2", "n3", "n5"}
    assert peers_of(reflected(6, topology=Topology.AUTO, reflectors_from=6), "n4") == {"n1", "n2"}


def test_without_a_selector_every_node_comes_to_the_same_three() -> None:
    state = reflected(9, reflector_selector=None)
    chosen = reflectors(state)
    assert len(chosen) == ELECTED
    again = ClusterState(nodes=dict(reversed(state.nodes.items())), configuration=state.configuration)
    assert reflectors(again) == chosen


def test_a_selector_that_selects_none_leaves_the_mesh() -> None:
    state = reflected()
    for name, each in list(state.nodes.items()):
        state.nodes[name] = replace(each, labels={})
    assert peers_of(state, "n4") == {"n1", "n2", "n3", "n5"}


def session_of(state: ClusterState, me: str, other: str) -> Session:
    address = state.nodes[other].addresses[0]
    return sessions(state, me, source).by_address[address]


def learned(state: ClusterState, me: str, other: str, **attributes: object) -> Candidate:
    """The block of `other` as `me` learned it from `other` itself."""
    hop = str(state.nodes[other].addresses[0])
    block = str(state.nodes[other].blocks[0])
    return Candidate(path(block, hop, **attributes), session_of(state, me, other))


def hears(state: ClusterState, me: str, peer: str, best: Candidate) -> list[object]:
    """What reflector `me` tells `peer` of a learned path."""
    wanted = desired(NodeView(state, me), session_of(state, me, peer), {best.path.prefix: best})
    return [wanted[best.path.prefix]] if best.path.prefix in wanted else []


def test_a_clients_path_goes_to_all_others_with_its_next_hop_and_marks() -> None:
    state = reflected()
    best = learned(state, "n1", "n4")
    for peer in ("n2", "n3", "n5"):
        [told] = hears(state, "n1", peer, best)
        assert told.next_hop == ip_address("10.4.0.2")  # type: ignore[attr-defined]
        assert told.attributes.originator == IPv4Address("10.4.0.2")  # type: ignore[attr-defined]
        assert told.attributes.clusters == (CLUSTER_ID,)  # type: ignore[attr-defined]
    assert hears(state, "n1", "n4", best) == []  # not back to where it came from


def test_a_reflectors_path_goes_to_clients_only() -> None:
    state = reflected(6)
    for number in (6,):
        state.nodes[f"n{number}"] = node(number, labels={"rack": "a"})
    best = learned(state, "n1", "n2")
    assert hears(state, "n1", "n4", best)
    assert hears(state, "n1", "n6", best) == []


def test_only_reflectors_pass_anything_on() -> None:
    state = reflected()
    assert passes_on(state, sessions(state, "n1", source).by_address.values())
    assert not passes_on(state, sessions(state, "n4", source).by_address.values())
    assert hears(state, "n4", "n1", learned(state, "n4", "n2")) == []


@pytest.mark.parametrize(
    ("block", "hop", "attributes", "verdict"),
    [
        ("10.244.5.0/24", "10.5.0.2", {}, Verdict.ACCEPTED),  # n5's block by way of n1, with n5's next hop
        ("10.244.5.0/24", "10.3.0.2", {}, Verdict.NOT_OF_NODE),  # another node's next hop
        ("10.244.5.0/24", "10.1.0.2", {}, Verdict.NOT_OF_NODE),  # the reflector draws it to itself
        ("10.245.0.0/24", "10.5.0.2", {}, Verdict.NOT_OF_NODE),
        ("10.244.5.0/24", "10.5.0.2", {"originator": IPv4Address("10.1.0.2")}, Verdict.REFLECTION_LOOP),
    ],
)
def test_what_a_reflector_says_is_held_to_the_nodes(
    block: str, hop: str, attributes: dict[str, object], verdict: Verdict
) -> None:
    state = reflected()
    me = "n4"
    session = replace(session_of(state, me, "n1"), router_id=IPv4Address("10.1.0.2"))
    protected = Protected.of(state, me, (), frozenset())
    assert ImportJudge(protected, {})(session, path(block, hop, **attributes))[0].verdict is verdict


def test_our_own_cluster_on_the_path_is_a_loop() -> None:
    state = reflected()
    session = session_of(state, "n1", "n2")
    protected = Protected.of(state, "n1", (), frozenset())
    looped = path("10.244.5.0/24", "10.5.0.2", clusters=(CLUSTER_ID,))
    assert ImportJudge(protected, {})(session, looped)[0].verdict is Verdict.REFLECTION_LOOP


def test_the_marks_are_on_the_wire_inside_the_as_only() -> None:
    state = reflected()
    marked = path("10.244.5.0/24", "10.5.0.2", originator=CLUSTER_ID, clusters=(CLUSTER_ID,)).attributes
    inside = announce(
        session_of(state, "n1", "n4"), ip_address("10.5.0.2"), marked, [ip_network("10.244.5.0/24")]
    )
    assert "originator-id 10.0.0.1 cluster-list [ 10.0.0.1 ]" in inside
    outside = replace(session_of(state, "n1", "n4"), peer_as=65001)
    assert "originator" not in announce(
        outside, ip_address("10.5.0.2"), marked, [ip_network("10.244.5.0/24")]
    )
