"""What the agent's status says of contradicting objects, of refused peers, and of its view's age."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

from l3net.agent.neighbors import _of_declared, _refused_peer
from l3net.agent.status import MOST_CONTRADICTIONS, contradictions, views
from l3net.bgp.sessions import Refusal, Sessions, Unusable
from l3net.cli.status import _peer, _views
from l3net.doctor.node import peers_of
from l3net.model import BgpPeer, ClusterState, Kind, Node
from l3net.ports import View


def agent(state: ClusterState, *refusals: Refusal, seen: dict[Kind, View] | None = None) -> Any:
    return SimpleNamespace(state=state, sessions=Sessions({}, refusals), views=seen or {})


def test_a_peer_that_is_refused_keeps_its_row() -> None:
    """A misspelt filter: its row vanished."""
    state = ClusterState(peers={"tor": BgpPeer("tor", ip_address("10.0.0.9"), as_number=1, filters=("x",))})
    refusals = [
        Refusal("tor", Unusable.MISSING_FILTER, "x"),
        Refusal("mesh:n2", Unusable.DUPLICATE_ADDRESS, "10.0.0.2"),
    ]
    found = [_refused_peer(each, state.peers) for each in _of_declared(agent(state, *refusals))]
    (row,) = found
    assert (row["name"], row["state"], row["reason"]) == ("tor", "refused", "missingFilter: x")
    assert row["address"] == "10.0.0.9"
    assert "missingFilter: x" in str(_peer(row)), "the table shows it"
    assert peers_of({"peers": found}) == [], "doctor has no session to look at"


def test_a_peer_of_many_ends_is_found_by_its_name() -> None:
    state = ClusterState(peers={"rr": BgpPeer("rr")})
    assert _of_declared(agent(state, Refusal("rr/n2", Unusable.NO_LOCAL_ADDRESS)))


def test_contradictions_are_problems_and_bounded() -> None:
    nodes = {
        f"n{i}": Node(f"n{i}", (ip_address("10.0.0.1"),), (ip_network("10.1.0.0/24"),)) for i in range(40)
    }
    found = contradictions(agent(ClusterState(nodes=nodes)))
    assert len(found) == MOST_CONTRADICTIONS + 1
    assert "Node n0: AddressShared" in found[0]
    assert found[-1] == "60 more contradictions"
    assert contradictions(agent(ClusterState(nodes={"n0": nodes["n0"]}))) == []


def test_a_missing_filter_is_told_once() -> None:
    """By the refusal, which names it already."""
    state = ClusterState(peers={"tor": BgpPeer("tor", filters=("x",))})
    assert contradictions(agent(state)) == []


def test_the_age_of_a_view() -> None:
    seen = {Kind.SERVICE: View(12.34, None), Kind.NODE: View(100.0, 7.0), Kind.BGP_PEER: View(None, None)}
    rows = views(agent(ClusterState(), seen=seen))
    assert rows == [
        {"kind": "BGPPeer", "listedSeconds": None, "bookmarkSeconds": None},
        {"kind": "Node", "listedSeconds": 100.0, "bookmarkSeconds": 7.0},
        {"kind": "Service", "listedSeconds": 12.3, "bookmarkSeconds": None},
    ]
    text = _views(rows)
    assert text.startswith("2 of 3 kinds listed")
    assert "last bookmark" in text
    assert _views(rows[:1]) == "0 of 1 kinds listed"
