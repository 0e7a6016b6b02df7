"""BFD between the nodes of the mesh: both ends ours, agent, ExaBGP and BFD process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from bfd_rig import ADDRESSES, BfdRig
from node_rig import CONFIGURATION, NODE, brought_up

pytestmark = pytest.mark.netns

OTHER = {
    **NODE,
    "metadata": {"name": "tor"},
    "spec": {"podCIDRs": ["10.244.2.0/24", "fd00:10:244:2::/120"]},
    "status": {"addresses": [{"type": "InternalIP", "address": address} for address in ADDRESSES]},
}
BLOCKS = {"10.244.2.0/24", "fd00:10:244:2::/120"}


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    with brought_up(BfdRig()) as made:
        yield made


def start(rig: BfdRig, **bfd: object) -> None:
    spec = {**CONFIGURATION["spec"], "bfd": bfd} if bfd else CONFIGURATION["spec"]  # type: ignore[dict-item]
    rig.declare("nodes.yaml", NODE, OTHER, {**CONFIGURATION, "spec": spec})
    for host, name in ((rig.node, "node"), (rig.tor, "tor")):
        options = ["--datastore", f"dir:{rig.manifests}", "--node-name", name]
        for daemon in (["bfd"], ["speaker"], ["agent", *options]):
            host.spawn(daemon[0], [sys.executable, "-m", "l3net.cli.main", *daemon])
    rig.established(*ADDRESSES)
    rig.until(lambda: rig.learned() == BLOCKS, "the other node's blocks")


def test_a_node_that_falls_silent_is_given_up_and_taken_back(rig: BfdRig) -> None:
    start(rig, enabled=True, minInterval=100)
    rig.watched(*ADDRESSES)
    assert [rig.bfd(address)["multihop"] for address in ADDRESSES] == [False, False]
    rig.silence()
    rig.until(lambda: not rig.learned(), "its blocks to go")
    # The hold time (9 s) would take them too: the reason is what tells that BFD did.
    assert {row["reason"] for row in rig.peers().values()} == {"BFD down: detectionTimeExpired"}
    rig.speak()
    rig.until(lambda: rig.learned() == BLOCKS, "its blocks again")
    rig.watched(*ADDRESSES)


def test_the_control_it_is_off_unless_asked_for(rig: BfdRig) -> None:
    start(rig)
    assert [rig.bfd(address) for address in ADDRESSES] == [{}, {}]
    rig.silence()
    rig.until(lambda: all(row["state"] == "down" for row in rig.peers().values()), "the hold time")
    assert not any("BFD" in row["reason"] for row in rig.peers().values())
