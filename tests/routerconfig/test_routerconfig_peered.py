"""The routers' configurations that `l3net router-config` writes, loaded into FRR, BIRD and GoBGP as they
are, beside a node: sessions come up with their passwords, and what the node announces is taken, and nothing
else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from far_side import FarSide
from far_sides import Bird, Frr, Gobgp
from node_rig import CONFIGURATION, NODE, peer
from stage import BLOCKS, FAR_ADDRESS, Stage, served_stage

from l3net.cli.main import cli

pytestmark = pytest.mark.netns

PLACEHOLDER = "PASSWORD-kube-system-bgp-tor"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "stringData": {"tor": "correct-horse"},
}
#: One is declared when the configuration is written, and both later: a router takes the first alone.
NETWORKS = {4: ("198.51.100.0/24", "198.51.101.0/24"), 6: ("2001:db8:1::/64", "2001:db8:2::/64")}


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with served_stage() as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.clear()
    return running


def declare(stage: Stage, networks: list[str]) -> None:
    spec: dict[str, Any] = {**CONFIGURATION["spec"], "advertise": {"networks": networks}}  # type: ignore[dict-item]
    password = {"secretKeyRef": {"name": "bgp", "key": "tor"}}
    how: dict[str, Any] = {"password": password, "gtsm": True}
    stage.declare("secret.yaml", SECRET)
    stage.declare(
        "node.yaml",
        NODE,
        {**CONFIGURATION, "spec": spec},
        peer("tor4", FAR_ADDRESS[4], **how),
        peer("tor6", FAR_ADDRESS[6], **how),
    )


def start(far: FarSide, text: str) -> None:
    """The daemon with that configuration, and what it has to have beside it."""
    if isinstance(far, Frr | Gobgp):
        far.start_with(text)
        return
    config = far.write("bird.conf", f"log stderr all;\nrouter id 10.90.0.2;\nprotocol device {{ }}\n{text}")
    far.path("/run/bird/bird.ctl").unlink(missing_ok=True)
    far.spawn("bird", ["bird", "-f", "-c", config])


@pytest.mark.parametrize("kind", ["frr", "bird", "gobgp"])
def test_the_router_takes_what_the_node_announces(stage: Stage, kind: str) -> None:
    far = {"frr": Frr, "bird": Bird, "gobgp": Gobgp}[kind](stage.tor)
    stage.far = far
    declare(stage, [NETWORKS[4][0], NETWORKS[6][0]])
    result = CliRunner().invoke(cli, ["router-config", kind, "--datastore", f"dir:{stage.manifests}"])
    assert result.exit_code == 0, result.output
    assert "correct-horse" not in result.stdout
    start(far, result.stdout.replace(PLACEHOLDER, "correct-horse"))
    stage.established(FAR_ADDRESS[4], FAR_ADDRESS[6])
    declare(stage, [network for pair in NETWORKS.values() for network in pair])
    for version in (4, 6):
        stage.until(lambda version=version: far.seen(BLOCKS[version]), "the block")  # type: ignore[misc]
        stage.until(lambda version=version: far.seen(NETWORKS[version][0]), "the network")  # type: ignore[misc]
    # The control: what was not declared then is announced now, and refused.
    told = {row["prefix"] for row in stage.asked("exports")["routes"] if row["verdict"] == "announced"}
    assert {NETWORKS[4][1], NETWORKS[6][1]} <= told
    assert [far.seen(NETWORKS[version][1]) for version in (4, 6)] == [None, None]
