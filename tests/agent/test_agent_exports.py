"""`l3net bgp announced` at a real agent, and what its router has."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from exabgp.version import release
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig

from l3net import __version__

pytestmark = pytest.mark.netns

FILTER = {
    "apiVersion": "l3net.io/v1alpha1",
    "kind": "BGPFilter",
    "metadata": {"name": "nothing"},
    "spec": {"export": [{"action": "Reject"}]},
}


def rows(rig: Rig, *options: str) -> list[dict[str, str]]:
    argv = [sys.executable, "-m", "l3net.cli.main", "bgp", "announced", "-o", "json", *options]
    found: list[dict[str, str]] = json.loads(rig.node.run(argv).stdout)
    return found


def test_every_peer_and_prefix_has_a_verdict(rig: Rig) -> None:
    rig.start()
    six: dict[str, Any] = {**TOR6, "spec": {**TOR6["spec"], "filters": ["nothing"]}}
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, six, FILTER)
    rig.until(lambda: rig.tor_routes() == {"10.244.1.0/24"}, "the router to hear one block alone")
    found = {(row["name"], row["prefix"]): row["verdict"] for row in rows(rig, "--all")}
    assert found == {
        ("tor4", "10.244.1.0/24"): "announced",
        ("tor4", "fd00:10:244:1::/120"): "familyNotNegotiated",
        ("tor6", "10.244.1.0/24"): "familyNotNegotiated",
        ("tor6", "fd00:10:244:1::/120"): "filteredBy:nothing",
    }
    assert {(row["name"], row["prefix"]) for row in rows(rig)} == {
        ("tor4", "10.244.1.0/24"),
        ("tor6", "fd00:10:244:1::/120"),
    }
    assert {row["name"] for row in rows(rig, "--peer", "tor6", "--refused")} == {"tor6"}
    assert len(rows(rig, "--prefix", "10.244.1.0/24")) == 2
    assert rows(rig, "--prefix", "10.244.1.7/24") == rows(rig, "--prefix", "10.244.1.0/24")
    argv = [sys.executable, "-m", "l3net.cli.main", "version", "--all", "-o", "json"]
    told = json.loads(rig.node.run(argv).stdout)
    assert (told["l3net"], told["agent"], told["speaker"], told["exabgp"]) == (*[__version__] * 3, release)
