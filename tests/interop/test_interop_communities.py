"""Extended communities, RFC 9494's, and weights by link bandwidth: what each far side shows and sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from far_sides import Bird, FarSession, Frr, Gobgp, Originated
from node_rig import NODE, peer
from stage import (
    BEHIND,
    BLOCKS,
    FAR_ADDRESS,
    NODE_ADDRESS,
    ORIGINATED,
    TAGGED,
    Stage,
    configuration,
    far_session,
    served_stage,
)

pytestmark = pytest.mark.netns

#: One of each form, with the two lengths of AS numbers.
EVERY = (
    "rt:64512:100",
    "rt:10.0.0.1:5",
    "rt:4200000000:7",
    "soo:64512:100",
    "soo:10.0.0.1:5",
    "soo:4200000000:7",
    "bandwidth:65001:1250000000",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with served_stage() as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.clear()
    return running


def policy(name: str = "policy", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "l3net.io/v1alpha1", "kind": "BGPFilter", "metadata": metadata, "spec": spec}


def adding(*communities: str) -> list[dict[str, Any]]:
    return [{"action": "Accept", "operations": {"addCommunities": list(communities)}}]


def both_families(**how: Any) -> FarSession:
    return far_session(versions=(4, 6), **how)


def declare(stage: Stage, *others: dict[str, Any], spec: dict[str, Any], **of_peer: Any) -> None:
    far = peer("far", FAR_ADDRESS[4], families=["IPv4", "IPv6"], **of_peer)
    stage.declare("node.yaml", NODE, configuration(**spec), far, *others)


def known(kind: str, extended: tuple[str, ...]) -> tuple[str, ...]:
    """OpenBGPD knows no link bandwidth; from an eBGP peer it drops what is not transitive (RFC 4360)."""
    return tuple(each for each in extended if kind != "openbgpd" or not each.startswith("bandwidth"))


@pytest.mark.parametrize("kind", ["frr", "bird", "gobgp", "openbgpd"])
@pytest.mark.parametrize("far_as", [65002, 65001], ids=["eBGP", "iBGP"])
def test_what_is_configured_is_what_the_far_side_shows(stage: Stage, kind: str, far_as: int) -> None:
    """Non-transitive ones too, to eBGP peers as to others: whoever configures one means that peer."""
    far = stage.far_side(kind)
    far.start([both_families(local_as=far_as)], [])
    everywhere = {"advertise": {"communities": ["rt:64512:1", "no-llgr"]}}
    declare(stage, policy(export=adding(*EVERY)), spec=everywhere, asNumber=far_as, filters=["policy"])
    for version in (4, 6):
        stage.until(lambda version=version: far.seen(BLOCKS[version]), "the block")  # type: ignore[misc]
        seen = far.seen(BLOCKS[version])
        assert seen is not None
        assert seen.extended == {*known(kind, EVERY), "rt:64512:1"}
        assert seen.communities == {"no-llgr" if kind == "frr" else "65535:7"}
    told = stage.asked("exports")["routes"]
    assert {tuple(row["communities"]) for row in told if row["kind"] == "block"} == {
        tuple(sorted([*EVERY, "rt:64512:1", "65535:7"]))
    }
    # Changed over the session as it is.
    declare(stage, policy(export=adding("soo:64512:2")), spec={}, asNumber=far_as, filters=["policy"])

    def changed(version: int) -> bool:
        seen = far.seen(BLOCKS[version])
        return seen is not None and seen.extended == {"soo:64512:2"}

    stage.until(lambda: changed(4) and changed(6), "the other communities")
    assert [row["flaps"] for row in stage.peers().values()] == [0]


@pytest.mark.parametrize("kind", ["frr", "bird", "gobgp", "openbgpd"])
@pytest.mark.parametrize("far_as", [65002, 65001], ids=["eBGP", "iBGP"])
def test_what_the_far_side_sends_is_what_is_shown_and_matched(stage: Stage, kind: str, far_as: int) -> None:
    # To an eBGP peer FRR and BIRD send no other; GoBGP knows no other than the non-transitive.
    bandwidth = "bandwidth-transitive" if far_as == 65002 and kind != "gobgp" else "bandwidth"
    tags = ("rt:10.0.0.1:5", "rt:64512:100", "soo:4200000000:7", f"{bandwidth}:{far_as}:1250000000")
    sent = known(kind, tags)
    far = stage.far_side(kind)
    originated = [
        Originated(table[version], next_hop=FAR_ADDRESS[version], extended=extended)
        for table, extended in ((ORIGINATED, ()), (TAGGED, sent))
        for version in (4, 6)
    ]
    far.start([both_families(local_as=far_as)], originated)
    rules = [{"action": "Reject", "communities": ["rt:64512:100", "soo:4200000000:7"]}]
    declare(stage, policy(**{"import": rules}), spec={}, asNumber=far_as, filters=["policy"])
    wanted = {table[version] for table in (ORIGINATED, TAGGED) for version in (4, 6)}
    stage.until(lambda: wanted <= stage.paths().keys(), "all prefixes")
    paths = stage.paths()
    for version in (4, 6):
        assert set(paths[TAGGED[version]]["communities"]) == set(sent)
        assert paths[TAGGED[version]]["verdict"] == "filteredBy:policy"
        assert paths[ORIGINATED[version]]["communities"] == []
        assert paths[ORIGINATED[version]]["verdict"] == "accepted"
    # The control: one that it does not carry. What an accepting rule takes off is gone.
    rules = [
        {"action": "Reject", "communities": ["rt:64512:101"]},
        {"action": "Accept", "operations": {"removeCommunities": ["rt:64512:100"]}},
    ]
    declare(stage, policy(**{"import": rules}), spec={}, asNumber=far_as, filters=["policy"])
    stage.until(lambda: set(TAGGED.values()) <= stage.learned().keys(), "the tagged ones in the kernel")
    for version in (4, 6):
        assert set(stage.paths()[TAGGED[version]]["communities"]) == {*sent} - {"rt:64512:100"}
    assert [row["flaps"] for row in stage.peers().values()] == [0]


def weights(stage: Stage, version: int) -> dict[str, int]:
    """The far side's kernel: gateway to weight, of the node's block."""
    shown = stage.tor.run(["ip", "-j", f"-{version}", "route", "show", BLOCKS[version]]).stdout
    return {hop["gateway"]: hop["weight"] for row in json.loads(shown) for hop in row.get("nexthops", ())}


def test_frr_weighs_two_links_by_the_bandwidth_the_node_announces(stage: Stage) -> None:
    """The control: with equal bandwidths, equal weights."""
    stage._net(stage.node, f"link add up1 type veth peer name down1 netns {stage.tor.pid}")
    for host, link, number in ((stage.node, "up1", 1), (stage.tor, "down1", 2)):
        stage._net(host, f"link set {link} up")
        stage._net(host, f"addr add 10.91.0.{number}/24 dev {link}")
        stage._net(host, f"addr add fd91::{number}/64 dev {link} nodad")
    far = stage.far_side("frr")
    links = {4: ("10.90.0", "10.91.0"), 6: ("fd90:", "fd91:")}
    ends = [(link, "." if version == 4 else ":") for version in (4, 6) for link in links[version]]
    far.start([FarSession(f"{link}{dot}2", f"{link}{dot}1") for link, dot in ends], [])

    def declare_bandwidths(narrow: str, wide: str) -> None:
        peers = [
            peer(f"far{number}", f"{link}{dot}2", filters=["narrow" if number % 2 == 0 else "wide"])
            for number, (link, dot) in enumerate(ends)
        ]
        filters = [policy("narrow", export=adding(narrow)), policy("wide", export=adding(wide))]
        stage.declare("node.yaml", NODE, configuration(), *peers, *filters)

    declare_bandwidths("bandwidth-transitive:65001:1250000000", "bandwidth:65001:3750000000")

    def weighed(version: int) -> bool:
        found = weights(stage, version)
        return len(found) == 2 and max(found.values()) in range(
            3 * min(found.values()), 4 * min(found.values())
        )

    stage.until(lambda: weighed(4) and weighed(6), "three quarters over the wider link")
    declare_bandwidths("bandwidth:65001:1250000000", "bandwidth:65001:1250000000")

    def equal(version: int) -> bool:
        found = weights(stage, version)
        return len(found) == 2 and len(set(found.values())) == 1

    stage.until(lambda: equal(4) and equal(6), "half over each")
    assert {row["flaps"] for row in stage.peers().values()} == {0}


LLGR_HELPER = """
hostname far
router bgp 65002
 bgp router-id 10.90.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart
 bgp long-lived-graceful-restart stale-time 3600
 neighbor 10.90.0.1 remote-as 65001
 neighbor 10.90.0.1 timers connect 1
 neighbor 10.98.0.2 remote-as 65003
 neighbor 10.98.0.2 timers connect 1
 address-family ipv4 unicast
  neighbor 10.90.0.1 activate
  neighbor 10.98.0.2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.90.0.1 activate
  neighbor 10.98.0.2 activate
  neighbor 10.90.0.1 route-map NODE out
 exit-address-family
route-map NODE permit 10
 set ipv6 next-hop global fd90::2
"""


def test_what_frr_keeps_for_a_router_long_gone_is_the_last_choice(stage: Stage) -> None:
    """RFC 9494: the router behind FRR is dead for longer than its restart time; FRR keeps its routes so long.

    Before, the control, its path is the better one. When nothing else is left, the stale one is used.
    """
    other = "10.90.0.3"
    stage.tor.run(["ip", "address", "add", f"{other}/24", "dev", "down0"])
    stage.tor.run(["ip", "address", "add", "fd90::3/64", "dev", "down0", "nodad"])
    gone = Gobgp(stage.tor, "behind")
    plain = Bird(stage.tor)
    far = stage.far_side("frr")
    assert isinstance(far, Frr)
    try:
        far.start_with(LLGR_HELPER)
        prefixes = [Originated(ORIGINATED[4]), Originated(ORIGINATED[6], next_hop=BEHIND[6])]
        behind = FarSession(
            BEHIND[4], "10.98.0.1", 65003, 65002, versions=(4, 6), restart_time=1, long_lived=3600
        )
        gone.start([behind], prefixes)
        session = FarSession(other, NODE_ADDRESS[4], 65004, versions=(4, 6), restart_time=0, prepend=3)
        plain.start([session], prefixes, port=1790)
        peers = [
            peer("far", FAR_ADDRESS[4], families=["IPv4", "IPv6"]),
            peer("plain", other, families=["IPv4", "IPv6"], asNumber=65004, port=1790),
        ]
        stage.declare("node.yaml", NODE, configuration(), *peers)

        def through(last: int) -> bool:
            learned = stage.learned()
            return [learned.get(prefix) for prefix in ORIGINATED.values()] == [
                f"10.90.0.{last}",
                f"fd90::{last}",
            ]

        stage.until(lambda: len(stage.asked("routes").get("routes", ())) >= 4, "both paths of both")
        stage.until(lambda: through(2), "the shorter path")
        gone.kill()
        stage.until(lambda: through(3), "the path of a router that is there", 60)
        stale = [row for row in stage.asked("routes")["routes"] if row["name"] == "far"]
        assert {row["prefix"] for row in stale if "65535:6" in row["communities"]} == set(ORIGINATED.values())
        plain.kill()
        stage.until(lambda: through(2), "what is left")
        # A local preference does not lift it.
        assert {row["verdict"] for row in stale if row["prefix"] in ORIGINATED.values()} == {"accepted"}
    finally:
        gone.kill()
        plain.kill()
