"""OpenBGPD beyond the matrix: as docs/bgp.md configures it, and between link-local addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from far_sides import OpenBgpd
from node_rig import NODE, brought_up, peer
from stage import BLOCKS, FAR_ADDRESS, NODE_ADDRESS, ORIGINATED, Stage, configuration, served_stage

from l3net.lab.host import Host

pytestmark = pytest.mark.netns

DOCUMENT = Path(__file__).parents[2] / "docs" / "bgp.md"
#: What the page has, and what the stage has in its place.
HERE = {
    "AS 65001": "AS 65002",
    "remote-as 64512": "remote-as 65001",
    "10.0.1.": "10.90.0.",
    "fd00:10:0:1::/64": "fd90::/64",
}


@pytest.fixture
def served() -> Iterator[Stage]:
    with served_stage() as stage:
        yield stage


def started(stage: Stage, text: str) -> OpenBgpd:
    far = stage.far_side("openbgpd")
    assert isinstance(far, OpenBgpd)
    far.start_with(text)
    return far


def test_as_the_page_configures_it(served: Stage) -> None:
    """Neighbours by their subnet, and a policy that takes blocks and service addresses alone."""
    found = re.search(r"^```openbgpd\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    text = found[1]
    for there, here in HERE.items():
        assert there in text
        text = text.replace(there, here)
    networks = "".join(f"network {prefix}\n" for prefix in ORIGINATED.values())
    far = started(served, text.replace("prefix-set", f"{networks}prefix-set", 1))
    peers = [peer(f"far{version}", FAR_ADDRESS[version]) for version in (4, 6)]
    unwanted = {"networks": ["10.99.0.0/16", "fd99::/64"]}
    served.declare("node.yaml", NODE, configuration(advertise=unwanted), *peers)
    served.until(lambda: served.learned().keys() >= set(ORIGINATED.values()), "its prefixes in the kernel")
    for version in (4, 6):
        served.until(lambda version=version: far.seen(BLOCKS[version]), "the node's block")  # type: ignore[misc]
        seen = far.seen(BLOCKS[version])
        assert seen and seen.next_hop == NODE_ADDRESS[version]
    exported = {row["prefix"] for row in served.asked("exports")["routes"]}
    for prefix in unwanted["networks"]:
        assert prefix in exported, "announced, and refused there"
        served.until(lambda prefix=prefix: far.refused(prefix), f"{prefix} among what came in")  # type: ignore[misc]
        assert far.seen(prefix) is None


def link_local(host: Host, link: str) -> str:
    shown = json.loads(host.run(["ip", "-j", "-6", "address", "show", "dev", link]).stdout)
    addresses = [each for row in shown for each in row["addr_info"] if not each.get("tentative")]
    return next((each["local"] for each in addresses if each["scope"] == "link"), "")


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


def test_between_link_local_addresses_ipv6_is_exchanged(stage: Stage) -> None:
    """7.7 has the interface's name in a format string: it dies of swp1 or eth0, and lives with this one.

    It knows no RFC 8950, and sends its loopback's address as the next hop of IPv4 prefixes.
    """
    for words in ("set down0 down", "set down0 name k0", "set k0 up"):
        stage.tor.run(["ip", "link", *words.split()])
    stage.serve_node()
    stage.until(lambda: link_local(stage.tor, "k0") and link_local(stage.node, "up0"), "the addresses")
    here, there = link_local(stage.node, "up0"), link_local(stage.tor, "k0")
    networks = "".join(f"network {prefix}\n" for prefix in ORIGINATED.values())
    neighbour = f"neighbor {here}%k0 {{\nremote-as 65001\nannounce IPv4 unicast\nannounce IPv6 unicast\n}}\n"
    policy = "allow from any\nallow to any\n"
    head = "AS 65002\nrouter-id 10.90.0.2\nconnect-retry 1\nholdtime 9\n"
    far = started(stage, head + networks + neighbour + policy)
    spec = {"sourceInterface": "up0", "families": ["IPv4", "IPv6"], "extendedNextHop": True}
    stage.declare("node.yaml", NODE, configuration(), peer("far", there, **spec))
    stage.until(lambda: stage.learned().get(ORIGINATED[6]) == there, "its IPv6 prefix in the kernel")
    stage.until(lambda: far.seen(BLOCKS[6]), "the node's IPv6 block")
    stage.until(lambda: ORIGINATED[4] in stage.paths(), "its IPv4 prefix")
    assert stage.paths()[ORIGINATED[4]]["verdict"] == "nextHopInvalid"
    assert far.seen(BLOCKS[4]) is None
    assert any("does not support IPv6 next hops" in problem for problem in stage.status()["problems"])
