"""A peer that stops reading: nobody else waits for it, and its session ends by the send hold timer."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
from direct_exabgp import Direct, session
from node_rig import brought_up
from stage import FAR_ADDRESS, NODE_ADDRESS, Stage
from test_interop_attempts import hold, story, told
from test_interop_errors import cpu
from test_interop_exabgp_bugs import loaded
from test_interop_received import peers
from wire_peer import (
    ENHANCED_REFRESH,
    KEEPALIVE,
    UPDATE,
    USUAL,
    Listening,
    Wire,
    graceful_restart,
    message,
    route_refresh,
)

from l3net.bgp.exabgp.commands import SHOW_NEIGHBORS
from l3net.bgp.exabgp.configuration import fingerprint
from l3net.bgp.sessions import Session

pytestmark = pytest.mark.netns
versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
#: Another peer, who reads.
INNOCENT = {4: "10.90.0.3", 6: "fd90::3"}
ABSENT = {4: "10.90.0.77", 6: "fd90::77"}
CAPABILITIES = (*USUAL, ENHANCED_REFRESH, graceful_restart(4, 6))
#: Seconds of the hold timer and of the send hold timer: short, but not for a machine that is busy.
HOLD, SEND_HOLD = 5, 6
#: More than the kernel holds for a peer that reads nothing: each UPDATE has a long AS_PATH.
LINES, PREFIXES = 400, 20
LONG_PATH = " ".join(map(str, range(65100, 65350)))


@pytest.fixture(scope="module")
def running() -> Iterator[Direct]:
    with brought_up(Stage()) as stage:
        for version, (length, nodad) in {4: (24, []), 6: (64, ["nodad"])}.items():
            argv = ["ip", "addr", "add", f"{INNOCENT[version]}/{length}", "dev", "down0", *nodad]
            stage.tor.run(argv)
        direct = Direct(stage, [])
        yield direct
        direct.close()


@pytest.fixture
def direct(running: Direct) -> Iterator[Direct]:
    """ExaBGP with no session."""
    yield running
    hold(running)
    running.until(lambda: "10.90.0" not in str(running.ask(SHOW_NEIGHBORS)), "the sessions to go")
    running.messages.clear()
    running.lines.clear()


def stuck(version: int, **how: Any) -> Session:
    return session(version, hold_time=HOLD, **how)


def innocent(version: int, **how: Any) -> Session:
    return session(version, name="innocent", peer_address=ip_address(INNOCENT[version]), hold_time=90, **how)


def absent(version: int) -> Session:
    return session(version, name="absent", peer_address=ip_address(ABSENT[version]))


def narrow(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


@contextmanager
def both_up(direct: Direct, version: int, **how: Any) -> Iterator[tuple[Wire, Wire]]:
    """The peer that will not read, and the one that will."""
    with (
        Listening(direct.stage, version, before=narrow) as first,
        Listening(direct.stage, version, address=INNOCENT[version]) as second,
    ):
        hold(direct, stuck(version, **how), innocent(version))
        with first.accept() as one, second.accept() as other:
            other.establish(CAPABILITIES)
            one.establish(CAPABILITIES, hold_time=HOLD)
            direct.until(lambda: story(direct).count("up") == 2, "both sessions")
            yield one, other


def announce(direct: Direct, version: int, peer: str, number: int, path: str = LONG_PATH) -> None:
    """One UPDATE of IPv4 prefixes, or as many as there are prefixes of IPv6."""
    if version == 4:
        prefixes = [f"100.64.{number % 256}.{8 * each + number // 256}/32" for each in range(PREFIXES)]
    else:
        prefixes = [f"2001:db8:{number:x}:{each:x}::/64" for each in range(PREFIXES)]
    hop = NODE_ADDRESS[version]
    path = f"{path} {number + 1}" if path else str(number + 1)
    line = f"announce attributes next-hop {hop} origin igp as-path [ {path} ] nlri {' '.join(prefixes)}"
    direct.ask(f"neighbor {peer} {line}")


def row(direct: Direct, version: int) -> dict[str, Any]:
    return peers(direct)[FAR_ADDRESS[version]]


def in_force(direct: Direct) -> bool:
    return loaded(direct) == {fingerprint(direct.text)}


def while_it_lives(direct: Direct, wire: Wire, condition: Callable[[], object]) -> Callable[[], object]:
    """The condition, and a KEEPALIVE of the peer's each time it is asked."""

    def asked() -> object:
        try:
            wire.send(message(KEEPALIVE))
        except ConnectionError:
            raise AssertionError(f"the session ended: {story(direct)}") from None
        return condition()

    return asked


def fill(direct: Direct, version: int, wire: Wire) -> None:
    """Queue for the peer until its session has not been able to write for a second."""
    wire.send(message(KEEPALIVE))
    for number in range(LINES):
        announce(direct, version, FAR_ADDRESS[version], number)
        if number % 50 == 0:
            wire.send(message(KEEPALIVE))
    direct.until(
        while_it_lives(direct, wire, lambda: row(direct, version)["unsent-seconds"] > 1),
        "its window to be full",
    )


def prefixes_of(body: bytes) -> set[bytes]:
    """What an UPDATE announces, as it stands there."""
    withdrawn = int.from_bytes(body[:2], "big")
    attributes = int.from_bytes(body[2 + withdrawn : 4 + withdrawn], "big")
    at = 4 + withdrawn
    found, routes = set(), body[at + attributes :]
    while at < 4 + withdrawn + attributes:
        extended = bool(body[at] & 0x10)
        size = int.from_bytes(body[at + 2 : at + 3 + extended], "big")
        value = body[at + 3 + extended : at + 3 + extended + size]
        if body[at + 1] == 14:
            routes += value[5 + value[3] :]
        at += 3 + extended + size
    while routes:
        octets = 1 + (routes[0] + 7) // 8
        found.add(routes[:octets])
        routes = routes[octets:]
    return found


@versions
def test_nobody_waits_for_a_peer_that_does_not_read(direct: Direct, version: int) -> None:
    """And when it reads again, all is there, in order: UPDATEs, KEEPALIVEs amid them, End-of-RIB last."""
    peer = FAR_ADDRESS[version]
    with both_up(direct, version) as (wire, other):
        fill(direct, version, wire)
        waiting = row(direct, version)["queued"]
        assert waiting > PREFIXES
        direct.ask(f"neighbor {peer} announce eor ipv{version} unicast")
        # Another peer hears what is for it, and can be changed.
        began = time.monotonic()
        announce(direct, version, INNOCENT[version], 7, path="")
        assert other.expect(UPDATE)
        assert time.monotonic() - began < 2
        direct.text = direct.configure([stuck(version), innocent(version), absent(version)])
        direct.ask("reload")
        direct.until(while_it_lives(direct, wire, lambda: in_force(direct)), "the reload")
        assert row(direct, version)["queued"] == waiting
        # ExaBGP sleeps meanwhile.
        before = time.monotonic(), cpu(direct)
        for _ in range(10):
            wire.send(message(KEEPALIVE))
            time.sleep(0.1)
        assert (cpu(direct) - before[1]) / (time.monotonic() - before[0]) < 0.4
        assert story(direct) == ["up", "up"]
        heard: list[set[bytes]] = []
        keepalives = 0
        while not heard or heard[-1]:
            wire.send(message(KEEPALIVE))
            got = wire.read()
            assert got is not None
            assert got[0] in (UPDATE, KEEPALIVE)
            keepalives += got[0] == KEEPALIVE
            if got[0] == UPDATE:
                heard.append(prefixes_of(got[1]))
        assert len(set().union(*heard)) == LINES * PREFIXES
        assert keepalives
        assert (row(direct, version)["queued"], row(direct, version)["unsent-seconds"]) == (0, 0)
        assert story(direct) == ["up", "up"]


@versions
def test_the_send_hold_timer_ends_its_session_alone(direct: Direct, version: int) -> None:
    """RFC 9687. The setting comes and goes over the session as it is."""
    with both_up(direct, version) as (wire, other):
        fill(direct, version, wire)
        hold(direct, stuck(version, send_hold_time=SEND_HOLD), innocent(version))
        direct.until(while_it_lives(direct, wire, lambda: in_force(direct)), "the setting")
        assert story(direct) == ["up", "up"]
        before = row(direct, version)["unsent-seconds"]
        began = time.monotonic()

        def ended() -> object:
            with suppress(ConnectionError):
                wire.send(message(KEEPALIVE))
            return any(word.startswith("down") for word in story(direct))

        direct.until(ended, "the session to end", seconds=10 + SEND_HOLD)
        assert before + time.monotonic() - began > SEND_HOLD - 0.5
        assert story(direct)[2:4] == ["send 8/0 0x", "down send hold timer expired: notification sent (8,0)"]
        others = [each["state"] for each in told(direct, "state", peer=INNOCENT[version])]
        assert others == ["connected", "up"]
        announce(direct, version, INNOCENT[version], 7, path="")
        assert other.expect(UPDATE)


@versions
def test_the_send_hold_timer_can_be_off_and_is_long_by_default(direct: Direct, version: int) -> None:
    with both_up(direct, version, send_hold_time=0) as (wire, _):
        fill(direct, version, wire)
        direct.until(
            while_it_lives(direct, wire, lambda: row(direct, version)["unsent-seconds"] > 5),
            "5 s",
        )
        assert story(direct) == ["up", "up"]


@versions
def test_refreshes_asked_for_again_and_again_are_queued_once(direct: Direct, version: int) -> None:
    with both_up(direct, version) as (wire, _):
        fill(direct, version, wire)
        once = row(direct, version)["queued"]
        sent = LINES * PREFIXES
        for _ in range(20):
            wire.send(*[route_refresh(version)] * 20, message(KEEPALIVE))
        direct.until(
            while_it_lives(direct, wire, lambda: row(direct, version)["queued"] > once), "the refresh"
        )
        for _ in range(5):
            direct.ask(SHOW_NEIGHBORS)
        assert row(direct, version)["queued"] <= once + sent


@versions
def test_an_end_of_rib_that_was_not_sent_goes_with_its_session(direct: Direct, version: int) -> None:
    """There it would come before what is yet to be announced (RFC 4724 section 2)."""
    peer = FAR_ADDRESS[version]
    with Listening(direct.stage, version, before=narrow) as listening:
        hold(direct, stuck(version))
        with listening.accept() as wire:
            wire.establish(CAPABILITIES, hold_time=3)
            direct.until(lambda: "up" in story(direct), "the session")
            fill(direct, version, wire)
            direct.ask(f"neighbor {peer} announce eor ipv{version} unicast")
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with listening.accept() as wire:
            wire.establish(CAPABILITIES, hold_time=3)
            heard: set[bytes] = set()
            while len(heard) < LINES * PREFIXES:
                wire.send(message(KEEPALIVE))
                got = wire.read()
                assert got is not None
                if got[0] == UPDATE:
                    assert prefixes_of(got[1]), "an End-of-RIB"
                    heard |= prefixes_of(got[1])
            direct.ask(f"neighbor {peer} announce eor ipv{version} unicast")
            assert not prefixes_of(wire.expect(UPDATE))
            announce(direct, version, peer, LINES + 1, path="")
            assert prefixes_of(wire.expect(UPDATE)), "an End-of-RIB more"
