"""BFD beside BGP with a real FRR: who loses what, when, and what must not be lost."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import pytest
from bfd_rig import ADDRESSES, DEAF, FAST, FRR_BFD, ONLY_BFD, SILENCE, BfdRig
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig, brought_up, peer

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
BLOCKS = {"10.244.1.0/24", "fd00:10:244:1::/120"}


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    with brought_up(BfdRig()) as made:
        yield made


def ready(rig: Rig, learned: set[str]) -> bool:
    return rig.tor_routes() == BLOCKS and learned == LEARNED


def start(rig: BfdRig, **bfd: object) -> None:
    rig.start(**bfd)
    rig.until(lambda: ready(rig, rig.learned()), "routes both ways")


def test_a_silent_router_is_given_up_by_bfd_and_taken_back(rig: BfdRig) -> None:
    start(rig)
    for address in ADDRESSES:
        assert rig.bfd(address)["detectionTimeMs"] == 300
        assert rig.bfd(address)["multihop"] is False
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=5)
    rig.until(lambda: not rig.tor_routes(), "ours to go at the router", seconds=5)
    for address, row in rig.peers().items():
        assert row["state"] == "down"
        assert row["reason"] == "BFD down: detectionTimeExpired", "not the hold time"
        assert rig.bfd(address)["failed"] is True
    rig.speak()
    rig.until(lambda: ready(rig, rig.learned()), "routes both ways again")
    rig.watched(*ADDRESSES)
    assert [rig.bfd(address)["failed"] for address in ADDRESSES] == [False, False]


def test_several_hops(rig: BfdRig) -> None:
    """RFC 5883: the router's loopback addresses, which are on no link of the node."""
    far = ("10.91.0.2", "fd91::2")
    config = FRR_BFD
    for near, address in (("10.90.0.1", far[0]), ("fd90::1", far[1])):
        timers = f" neighbor {near} timers connect 1\n"
        config = config.replace(
            timers, f"{timers} neighbor {near} ebgp-multihop 2\n neighbor {near} update-source {address}\n"
        )
    for host, arguments in (
        (rig.tor, f"addr add {far[0]}/32 dev lo"),
        (rig.tor, f"addr add {far[1]}/128 dev lo"),
        (rig.node, f"route add {far[0]} via 10.90.0.2"),
        (rig.node, f"-6 route add {far[1]} via fd90::2"),
    ):
        host.run(["ip", *arguments.split()])
    rig.start_tor(config)
    several = [peer(f"far{n}", address, multihop=2, bfd=FAST) for n, address in enumerate(far)]
    rig.declare("node.yaml", NODE, CONFIGURATION, *several)
    rig.start_bfd()
    rig.start_speaker()
    rig.start_agent()
    rig.established(*far)
    rig.watched(*far)
    rig.until(lambda: ready(rig, rig.learned()), "routes both ways")
    assert [rig.bfd(address)["multihop"] for address in far] == [True, True]
    assert {(row["multihop"], row["status"]) for row in rig.tor_bfd().values()} == {(True, "up")}
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go")
    assert {row["reason"] for row in rig.peers().values()} == {"BFD down: detectionTimeExpired"}
    rig.speak()
    rig.until(lambda: ready(rig, rig.learned()), "routes both ways again")


def test_the_control_without_bfd_only_the_hold_time_helps(rig: BfdRig) -> None:
    Rig.start_tor(rig, FRR)
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.start_bfd()
    rig.start_speaker()
    rig.start_agent()
    rig.established(*ADDRESSES)
    rig.until(lambda: rig.learned() == LEARNED, "the routes")
    assert rig.bfd(ADDRESSES[0]) == {}
    rig.silence()
    time.sleep(2)
    assert rig.learned() == LEARNED
    rig.until(
        lambda: all(row["state"] == "down" for row in rig.peers().values()), "the hold time", seconds=20
    )
    assert not any("BFD" in row["reason"] for row in rig.peers().values())


def test_a_router_that_hears_nothing_and_is_heard_is_given_up_too(rig: BfdRig) -> None:
    """Its own BFD says so: both sides give up."""
    start(rig)
    rig.silence(DEAF)
    rig.until(lambda: not rig.learned() and not rig.tor_routes(), "all routes to go", seconds=6)
    assert {row["reason"] for row in rig.peers().values()} == {"BFD down: neighborSignaledDown"}


def test_a_node_that_falls_silent_is_given_up_by_the_router(rig: BfdRig) -> None:
    start(rig)
    rig.node.run(["nft", "-f", "-"], text=SILENCE)
    rig.until(lambda: not rig.tor_routes(), "the router to drop the blocks", seconds=6)
    shown = {row["diagnostic"] for row in rig.tor_bfd().values()}
    assert shown == {"control detection time expired"}


def test_bgp_that_works_without_bfd_is_used_without_it(rig: BfdRig) -> None:
    """A BFD that is filtered costs one reset, not the routes; and an agent's restart costs no second one."""
    start(rig)
    rig.silence(ONLY_BFD)
    rig.until(lambda: all(row["flaps"] for row in rig.peers().values()), "both to fail", seconds=6)
    rig.until(lambda: ready(rig, rig.learned()), "BGP to be back without it")
    for address in ADDRESSES:
        assert rig.bfd(address)["state"] == "Down"
        assert rig.bfd(address)["failed"] is False
    before = rig.tor_sessions()
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the agent to end")
    rig.start_agent()
    rig.established(*ADDRESSES)
    rig.until(lambda: rig.bfd(ADDRESSES[0]).get("state") == "Down", "the agent to hear of BFD")
    assert rig.tor_sessions() == before
    assert rig.learned() == LEARNED


def test_neither_agent_nor_speaker_takes_bfd_along(rig: BfdRig) -> None:
    """RFC 5882 section 4.3: BFD does not share fate with BGP here, so graceful restart is not voided."""
    start(rig)
    before = {address: row["id"] for address, row in rig.tor_bfd().items()}
    downs = rig.vtysh("show bfd peers counters json")
    old = rig.exabgp_pid()
    rig.node.run(["kill", "-9", str(old)])
    rig.until(lambda: rig.exabgp_pid() not in (0, old), "a new ExaBGP")
    assert rig.tor_routes() == BLOCKS, "the router keeps ours (RFC 4724)"
    assert rig.learned() == LEARNED
    rig.established(*ADDRESSES)
    rig.node.kill("agent", signal.SIGKILL)
    rig.until(lambda: not rig.node.alive("agent"), "the agent to die")
    time.sleep(2)  # seven detection times
    assert {row["status"] for row in rig.tor_bfd().values()} == {"up"}
    rig.start_agent()
    rig.established(*ADDRESSES)
    rig.watched(*ADDRESSES)
    assert ready(rig, rig.learned())
    assert [rig.bfd(address)["flaps"] for address in ADDRESSES] == [0, 0]
    assert {address: row["id"] for address, row in rig.tor_bfd().items()} == before
    assert downs.count('"session-down":0') == rig.vtysh("show bfd peers counters json").count(
        '"session-down":0'
    )


def test_stopped_it_says_so_and_started_again_in_place_nobody_notices(rig: BfdRig) -> None:
    """SIGHUP hands the sessions over to the new program; the control is a stop: FRR 8 takes it for down."""
    start(rig)
    before, ids = rig.tor_sessions(), {address: row["id"] for address, row in rig.tor_bfd().items()}
    pid = rig.node.daemon_pid("bfd")
    for _ in range(3):
        rig.node.kill("bfd", signal.SIGHUP)
        time.sleep(1)
    assert rig.node.alive("bfd")
    assert rig.node.log("bfd").read_text().count("ready, pid") == 4
    rig.watched(*ADDRESSES)
    assert rig.node.daemon_pid("bfd") == pid
    assert [rig.bfd(address)["flaps"] for address in ADDRESSES] == [0, 0]
    assert rig.tor_sessions() == before
    assert {address: row["id"] for address, row in rig.tor_bfd().items()} == ids
    rig.node.kill("bfd", signal.SIGTERM)
    rig.until(lambda: not rig.node.alive("bfd"), "the end of the BFD process")
    assert {row["remote-diagnostic"] for row in rig.tor_bfd().values()} == {"administratively down"}
    rig.until(lambda: any("l3net bfd" in text for text in rig.status()["problems"]), "the problem")
    rig.until(lambda: rig.tor_sessions() != before, "the control: FRR resets the sessions", seconds=6)


def test_timers_change_without_a_flap_and_bfd_turned_off_costs_one_reset(rig: BfdRig) -> None:
    start(rig)
    before = rig.tor_sessions()
    rig.declare_peers(minInterval=400, multiplier=5)
    rig.until(lambda: rig.bfd(ADDRESSES[0])["transmitIntervalMs"] == 400, "the new interval")
    assert rig.bfd(ADDRESSES[0])["detectionTimeMs"] == 1200
    rig.declare_peers(minInterval=50)
    rig.until(lambda: rig.bfd(ADDRESSES[1])["transmitIntervalMs"] == 100, "what both sides can")
    assert rig.tor_sessions() == before
    assert rig.bfd(ADDRESSES[0])["flaps"] == 0
    off = [f"no neighbor {address} bfd" for address in ("10.90.0.1", "fd90::1")]
    rig.vtysh("conf t", "router bgp 65002", *off)
    rig.until(lambda: rig.bfd(ADDRESSES[0])["state"] == "Down", "the router's BFD to be off")
    # FRR 8 takes its leave with Down instead of AdminDown: a failure, and BGP is back without BFD.
    rig.until(lambda: rig.bfd(ADDRESSES[0])["failed"] is False, "BGP to be back")
    rig.established(*ADDRESSES)
    rig.declare_peers(enabled=False)
    rig.until(lambda: rig.bfd(ADDRESSES[0]) == {}, "no BFD")
    rig.until(lambda: ready(rig, rig.learned()), "routes both ways")


FORGED = """
import socket, sys
ttl, target = int(sys.argv[1]), sys.argv[2]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
sock.bind(("10.90.0.2", 50000))
sock.sendto(bytes.fromhex("204003180000004d00000000000f4240000f424000000000"), (target, 3784))
"""


def test_a_packet_from_farther_than_the_link_is_not_believed(rig: BfdRig) -> None:
    """RFC 5881 section 5, with the control: the same packet from the link ends the session."""
    start(rig)
    for ttl, believed in ((254, False), (255, True)):
        rig.tor.run([sys.executable, "-c", FORGED, str(ttl), "10.90.0.1"])
        if believed:
            rig.until(lambda: rig.bfd(ADDRESSES[0])["flaps"] == 1, "the forged packet to work", seconds=6)
        else:
            time.sleep(0.5)
            assert rig.bfd(ADDRESSES[0])["flaps"] == 0


def test_without_the_privilege_it_says_so_and_goes_on(rig: BfdRig) -> None:
    rig.start_tor()
    rig.declare_peers()
    limited = ["setpriv", "--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--"]
    rig.node.spawn("bfd", [*limited, sys.executable, "-m", "l3net.cli.main", "bfd"])
    rig.start_speaker()
    rig.start_agent()
    rig.watched(*ADDRESSES)
    [problem] = rig.status()["problems"]
    assert "CAP_SYS_NICE" in problem
    second = rig.node.run([sys.executable, "-m", "l3net.cli.main", "bfd"], check=False)
    assert second.code == 2
    assert "already serves" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.soak
def test_a_soak_under_load_flaps_nothing(rig: BfdRig) -> None:
    """Twenty seconds with both cores busy, and twice as many spinners as cores beside."""
    start(rig)
    for number in range(4):
        rig.node.spawn(f"spin{number}", [sys.executable, "-c", "while True: pass"])
    time.sleep(20)
    assert [rig.bfd(address)["flaps"] for address in ADDRESSES] == [0, 0]
    assert rig.peers()[ADDRESSES[0]]["flaps"] == 0
