"""The verdict on every prefix for every peer agrees with what the peer is to hear."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import session

from l3net.announce.source import NodeView
from l3net.announce.sources import SOURCES, desired, verdict
from l3net.bgp.drain import Stage
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Export
from l3net.model import (
    Action,
    AdvertisePolicy,
    BgpConfiguration,
    BgpFilter,
    ClusterState,
    Family,
    FilterRule,
    Node,
    Prefix,
)

VIPS = (ip_network("10.96.0.10/32"), ip_network("fd00:10:96::a/128"))
NODE = Node("n1", blocks=(ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/120")))
FILTER = BgpFilter("no-vips", exports=(FilterRule(Action.REJECT, cidr=ip_network("10.96.0.0/16")),))
STATE = ClusterState(
    nodes={"n1": NODE},
    filters={"no-vips": FILTER},
    configuration=BgpConfiguration(advertise=AdvertisePolicy(networks=(ip_network("192.0.2.0/24"),))),
)
BOTH = {Family.IPV4: ip_address("10.0.0.2"), Family.IPV6: ip_address("fd00::2")}
SESSIONS = {
    "one family": session(),
    "both": session(families=frozenset(Family), next_hops=BOTH),
    "no next hop": session(families=frozenset(Family)),
    "mesh": session(name="mesh:n2", peer_as=64512, families=frozenset(Family), next_hops=BOTH),
    "filtered": session(families=frozenset(Family), next_hops=BOTH, filters=("no-vips",)),
}


def verdicts(one: Session, stage: Stage = Stage.NONE) -> dict[Prefix, tuple[Export, str]]:
    view = NodeView(STATE, "n1", VIPS)
    return {
        prefix: verdict(view, one, source, prefix, stage)
        for source in SOURCES
        for prefix in source.prefixes(view)
    }


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("name", SESSIONS)
def test_announced_is_what_is_announced(name: str, stage: Stage) -> None:
    one = SESSIONS[name]
    wanted = desired(NodeView(STATE, "n1", VIPS), one, drain=stage)
    found = verdicts(one, stage)
    assert {prefix for prefix, (export, _) in found.items() if export is Export.ANNOUNCED} == wanted.keys()


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("one family", VIPS[1], (Export.FAMILY_NOT_NEGOTIATED, "")),
        ("no next hop", VIPS[1], (Export.NO_NEXT_HOP, "")),
        ("mesh", VIPS[0], (Export.MESH_PEER, "")),
        ("filtered", VIPS[0], (Export.FILTERED, "no-vips")),
        ("filtered", VIPS[1], (Export.ANNOUNCED, "")),
    ],
)
def test_each_refusal_is_named(name: str, prefix: Prefix, expected: tuple[Export, str]) -> None:
    assert verdicts(SESSIONS[name])[prefix] == expected


def test_a_node_that_leaves_says_so() -> None:
    found = verdicts(replace(SESSIONS["both"]), Stage.WITHDRAWN)
    assert set(found.values()) == {(Export.NODE_DRAINING, "")}
