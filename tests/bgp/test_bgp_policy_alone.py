"""Without the mesh an agent may know its own Node alone, and a router still passes on other nodes' routes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import path, session

from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import Protected
from l3net.bgp.verdict import Verdict
from l3net.model import BgpConfiguration, ClusterState, ImportPolicy, Node

ME, OTHER = Node("n1", (ip_address("10.1.0.2"),)), Node("n2", (ip_address("10.1.0.3"),))
LINKS = (ip_network("10.1.0.0/24"), ip_network("10.0.0.0/30"))


@pytest.mark.parametrize(
    ("mesh", "nodes", "hop", "verdict"),
    [
        (False, (ME,), "10.1.0.3", Verdict.ACCEPTED),  # a neighbour on our link, which may well be a node
        (False, (ME,), "10.9.0.3", Verdict.NEXT_HOP_UNKNOWN),  # RFC 4271 section 5.1.3: on a common subnet
        (False, (ME,), "10.1.0.2", Verdict.NEXT_HOP_SELF),
        (False, (ME, OTHER), "10.1.0.3", Verdict.ACCEPTED),
        (False, (ME, OTHER), "10.1.0.4", Verdict.NEXT_HOP_UNKNOWN),  # all nodes are known: it is none
        (True, (ME,), "10.1.0.3", Verdict.NEXT_HOP_UNKNOWN),
    ],
)
def test_next_hops(mesh: bool, nodes: tuple[Node, ...], hop: str, verdict: Verdict) -> None:
    configuration = BgpConfiguration(mesh=mesh, imports=ImportPolicy(ebgp_requires_policy=False))
    state = ClusterState(nodes={node.name: node for node in nodes}, configuration=configuration)
    protected = Protected.of(state, "n1", LINKS, frozenset(ME.addresses))
    found, _ = ImportJudge(protected, {})(session(), path("10.244.2.0/24", hop))
    assert found.verdict is verdict
