"""BFD with a real BIRD: authentication, several hops, and a BFD that shares fate with a restarting BGP."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bfd_rig import ADDRESSES, FAST, BirdRig, bird_config
from node_rig import CONFIGURATION, NODE, brought_up, peer

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
BLOCKS = {"10.244.1.0/24", "fd00:10:244:1::/120"}
FAR = ("10.91.0.2", "fd91::2")
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bfd", "namespace": "kube-system"},
    "stringData": {"password": "canary-bfd-5e1f"},
}


@pytest.fixture
def rig() -> Iterator[BirdRig]:
    with brought_up(BirdRig()) as made:
        yield made


def start(rig: BirdRig, config: str, addresses: tuple[str, ...], *documents: dict[str, Any]) -> None:
    rig.start_bird(config)
    rig.declare("node.yaml", NODE, CONFIGURATION, *documents)
    if not rig.node.alive("agent"):
        rig.start_bfd()
        rig.start_speaker()
        rig.start_agent()
    rig.established(*addresses)
    rig.watched(*addresses)
    rig.until(lambda: rig.learned() == LEARNED and rig.bird_routes() == BLOCKS, "routes both ways")


def peers(**bfd: object) -> list[dict[str, Any]]:
    return [peer(f"tor{n}", address, bfd={**FAST, **bfd}) for n, address in enumerate(ADDRESSES)]


def test_a_silent_bird_is_given_up_and_taken_back(rig: BirdRig) -> None:
    start(rig, bird_config(), ADDRESSES, *peers())
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=5)
    rig.until(lambda: not rig.bird_routes(), "ours to go there", seconds=5)
    assert {row["reason"] for row in rig.peers().values()} == {"BFD down: detectionTimeExpired"}
    rig.speak()
    rig.until(lambda: rig.learned() == LEARNED and rig.bird_routes() == BLOCKS, "routes both ways again")
    rig.watched(*ADDRESSES)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("SimplePassword", "simple"),
        ("MeticulousKeyedMD5", "meticulous keyed md5"),
        ("MeticulousKeyedSHA1", "meticulous keyed sha1"),
    ],
)
def test_authentication(rig: BirdRig, kind: str, theirs: str) -> None:
    password = SECRET["stringData"]["password"]  # type: ignore[index]
    config = bird_config(auth=f'authentication {theirs}; password "{password}" {{ id 7; }};')
    auth = {"type": kind, "keyID": 7, "secretKeyRef": {"name": "bfd", "key": "password"}}
    start(rig, config, ADDRESSES, SECRET, *peers(authentication=auth))
    assert password not in str(rig.status())
    for daemon in ("agent", "bfd"):
        assert password not in rig.node.log(daemon).read_text()
    # The control: with another password BFD goes down, and BGP comes back without it.
    rig.declare(
        "node.yaml",
        NODE,
        CONFIGURATION,
        {**SECRET, "stringData": {"password": "x"}},
        *peers(authentication=auth),
    )
    rig.until(lambda: rig.bfd(ADDRESSES[0]).get("state") == "Down", "the mismatch to show")
    time.sleep(2)
    assert rig.bfd(ADDRESSES[0])["state"] == "Down"


@pytest.mark.soak  # FRR stands for it
def test_several_hops(rig: BirdRig) -> None:
    """RFC 5883: peers at the router's loopback addresses, which are on no link of the node."""
    for host, arguments in (
        (rig.tor, "addr add 10.91.0.2/32 dev lo"),
        (rig.tor, "addr add fd91::2/128 dev lo"),
        (rig.node, "route add 10.91.0.2 via 10.90.0.2"),
        (rig.node, "-6 route add fd91::2 via fd90::2"),
    ):
        host.run(["ip", *arguments.split()])
    several = [peer(f"far{n}", address, multihop=2, bfd=FAST) for n, address in enumerate(FAR)]
    start(rig, bird_config(multihop=True), FAR, *several)
    assert [rig.bfd(address)["multihop"] for address in FAR] == [True, True]
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=5)
    assert {row["reason"] for row in rig.peers().values()} == {"BFD down: detectionTimeExpired"}
    rig.speak()
    rig.until(lambda: rig.learned() == LEARNED, "its routes to be back")


def test_bfd_that_dies_with_a_restarting_bgp_does_not_void_its_restart(rig: BirdRig) -> None:
    """RFC 5882 section 4.3: BIRD's BFD shares fate with its BGP, and says so (C bit clear)."""
    rig.declare("node.yaml", NODE, CONFIGURATION, *peers())
    rig.start_bfd()
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: rig.status().get("speakerConnected"), "the speaker")  # so that BIRD's OPEN is heard
    start(rig, bird_config(), ADDRESSES, *peers())
    time.sleep(6)  # past the first End-of-RIB sweep
    rig.node.spawn("monitor", ["ip", "monitor", "route"])
    rig.tor.kill("bird", signal.SIGKILL)
    rig.until(lambda: all(rig.bfd(address)["state"] == "Down" for address in ADDRESSES), "BFD to be down")
    assert rig.learned() == LEARNED, "kept for the restart (RFC 4724)"
    rig.start_bird(bird_config(), recover=True)
    rig.established(*ADDRESSES)
    rig.watched(*ADDRESSES)
    time.sleep(6)
    assert rig.learned() == LEARNED
    log = rig.node.log("monitor").read_text()
    assert not [line for line in log.splitlines() if "192.168.7" in line or "fd77" in line]
    # The control: the same loss of BFD while BGP is up is a failure.
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=5)
