"""Every field of a session has an impact, and RESET is exactly what changes ExaBGP's block."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import path, session

from l3net.bgp.exabgp.configuration import neighbor, reset_by
from l3net.bgp.impact import IMPACT, Impact, impact_of, plan
from l3net.bgp.sessions import Session
from l3net.model import BfdSettings, Family, NextHopMode

OTHER: dict[str, object] = {
    "name": "other",
    "peer_address": ip_address("10.0.0.9"),
    "peer_as": 65009,
    "local_address": ip_address("10.0.0.8"),
    "local_as": 64999,
    "router_id": ip_address("10.0.0.8"),
    "families": frozenset(Family),
    "next_hops": {Family.IPV4: ip_address("10.0.0.8")},
    "port": 1790,
    "listen_port": 1790,
    "hold_time": 9,
    "send_hold_time": 600,
    "graceful_restart": 0,
    "passive": True,
    "listen": True,
    "gtsm": True,
    "multihop": 4,
    "password": b"p",
    "source_interface": "eth0",
    "next_hop_mode": NextHopMode.KEEP,
    "filters": ("f",),
    "max_prefixes": 7,
    "third_party_next_hops": True,
    "allow_blackhole": True,
    "add_path": True,
    "extended_next_hop": True,
    "any_as": True,
    "client": True,
    "reflector": True,
    "cluster_id": ip_address("10.0.0.1"),
    "bfd": BfdSettings(),
    "bfd_secret": b"p",
    "mesh_node": "n2",
    "to_node": True,
}


def test_every_field_is_classed() -> None:
    assert set(IMPACT) == {each.name for each in fields(Session)} == set(OTHER)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_reset_is_what_exabgp_would_reset(name: str) -> None:
    before = session(listen=True) if name == "listen_port" else session()
    after = replace(before, **{name: OTHER[name]})  # type: ignore[arg-type]
    assert reset_by(before, after) == (impact_of(before, after) is Impact.RESET)
    assert (neighbor(before) != neighbor(after)) == (reset_by(before, after) or name == "send_hold_time")


def test_what_is_not_used_does_not_count() -> None:
    assert impact_of(session(), session(listen_port=1790)) is None
    passive = session(passive=True)
    assert impact_of(passive, replace(passive, port=1790)) is None


def test_plan_of_all_kinds() -> None:
    keep, soft, reset, gone, new = (session(f"10.0.0.{number}") for number in (1, 3, 5, 7, 9))
    block = {ip_network("10.244.1.0/24"): path("10.244.1.0/24", "10.0.0.2")}
    before = {one.peer_address: (one, block) for one in (keep, soft, reset, gone)}
    after = {
        keep.peer_address: (keep, block),
        soft.peer_address: (soft, {}),
        reset.peer_address: (replace(reset, hold_time=9), block),
        new.peer_address: (new, block),
    }
    found = {str(step.peer): step for step in plan(before, after)}
    assert {peer: step.action for peer, step in found.items()} == {
        "10.0.0.1": "unchanged",
        "10.0.0.3": "soft",
        "10.0.0.5": "reset",
        "10.0.0.7": "removed",
        "10.0.0.9": "added",
    }
    assert found["10.0.0.5"].fields == ("hold_time",)
    assert found["10.0.0.3"].withdraw == (ip_network("10.244.1.0/24"),)
    assert found["10.0.0.9"].announce == (ip_network("10.244.1.0/24"),)
    assert {step.action for step in plan(before, before)} == {"unchanged"}
