"""Attributes that are wrong, over a session that lasts: what becomes of the route, and of the attribute."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from direct_exabgp import Direct
from node_rig import brought_up
from stage import Stage
from test_interop_attempts import hold, story
from test_interop_hostile import NEXT_HOP, ORIGIN, attribute, nlri, update
from test_interop_negotiating import say
from test_interop_received import far, folded, peers, up, versions
from wire_peer import AS4, KEEPALIVE, MULTIPROTOCOL, UPDATE, USUAL, graceful_restart

pytestmark = pytest.mark.netns
FOUR = attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65002))
TWO = attribute(0x40, 2, struct.pack("!BBH", 2, 1, 65002))
#: Names to attributes beside ORIGIN and NEXT_HOP, and to what is told: the attribute's name where that stays.
#: A route that is withdrawn has None.
WRONG: dict[str, tuple[bytes, str | None]] = {
    "AGGREGATOR of no octets": (attribute(0xC0, 7, b""), ""),
    "AGGREGATOR of AS 0": (attribute(0xC0, 7, struct.pack("!I4s", 0, b"\1\2\3\4")), ""),
    "AGGREGATOR, the control": (attribute(0xC0, 7, struct.pack("!I4s", 65002, b"\1\2\3\4")), "aggregator"),
    "AS4_PATH of no octets": (attribute(0xC0, 17, b""), ""),
    "AS4_AGGREGATOR of no octets": (attribute(0xC0, 18, b""), ""),
    "ORIGINATOR_ID, of an external peer": (attribute(0x80, 9, b"\1\2\3\4"), ""),
    "CLUSTER_LIST, of an external peer": (attribute(0x80, 10, b"\1\2\3\4"), ""),
    "communities of three octets, the control": (attribute(0xC0, 8, b"\0\1\0"), None),
}
#: The same where the peer knows AS numbers of two octets.
WRONG_TWO: dict[str, tuple[bytes, str | None]] = {
    "AS4_PATH that ends too soon": (attribute(0xC0, 17, b"\2\2\0\0\0\1"), ""),
    "AS4_PATH of no octets": (attribute(0xC0, 17, b""), ""),
    "AS4_AGGREGATOR of three octets": (attribute(0xC0, 18, b"\0" * 3), ""),
    "AS4_AGGREGATOR of AS 0": (attribute(0xC0, 18, struct.pack("!I4s", 0, b"\1\2\3\4")), ""),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Direct]:
    with brought_up(Stage()) as stage:
        direct = Direct(stage, [])
        yield direct
        direct.close()


@pytest.fixture
def direct(running: Direct) -> Iterator[Direct]:
    """ExaBGP with no session."""
    yield running
    hold(running)
    running.until(lambda: peers(running) == {}, "the sessions to go")
    running.messages.clear()
    running.lines.clear()


def told_of(direct: Direct, prefix: str) -> dict[str, Any]:
    """The attributes that a prefix was told with; empty if it was not announced."""
    for line in direct.lines:
        if prefix.encode() in line and b'"announce"' in line:
            attributes: dict[str, Any] = json.loads(line)["neighbor"]["message"]["update"]["attribute"]
            return attributes
    return {}


@versions
@pytest.mark.parametrize(
    ("capabilities", "path", "cases"),
    [
        (USUAL, FOUR, WRONG),
        ((MULTIPROTOCOL[4], MULTIPROTOCOL[6]), TWO, WRONG_TWO),
    ],
    ids=["four octets", "two octets"],
)
def test_the_route_or_the_attribute_goes_and_the_session_stays(
    direct: Direct,
    version: int,
    capabilities: Any,
    path: bytes,
    cases: dict[str, tuple[bytes, str | None]],
) -> None:
    with up(direct, version, capabilities) as wire:
        prefixes = {name: f"198.51.{number}.0/24" for number, name in enumerate(cases)}
        for name, (wrong, _) in cases.items():
            wire.send(update(ORIGIN + path + NEXT_HOP + wrong, nlri(prefixes[name])))
        zero = path[:5] + bytes(len(path) - 5)  # RFC 7607 section 2: AS 0 in an AS_PATH
        wire.send(update(ORIGIN + zero + NEXT_HOP, nlri("203.0.113.0/24")))
        wire.send(update(ORIGIN + path + NEXT_HOP, nlri("192.0.2.0/24")))
        direct.until(lambda: (ip_network("192.0.2.0/24"), "") in folded(direct.messages), "the last of them")
        held = {str(prefix) for prefix, _ in folded(direct.messages)}
        for name, (_, stays) in cases.items():
            assert (prefixes[name] in held) == (stays is not None), name
            found = set(told_of(direct, prefixes[name])) - {"origin", "as-path", "error"}
            assert found == ({stays} if stays else set()), name
        assert "203.0.113.0/24" not in held
        assert story(direct) == ["up"]


@versions
def test_families_that_were_not_agreed_on_are_not_looked_at(direct: Direct, version: int) -> None:
    """RFC 4760 section 8: in MP_REACH_NLRI and MP_UNREACH_NLRI; nothing of them is told, and nothing ends."""
    spoken = MULTIPROTOCOL[4], AS4
    hop = bytes.fromhex("fd900000000000000000000000000002")
    reach6 = attribute(0x80, 14, bytes.fromhex("00020110") + hop + b"\0" + nlri("2001:db8::/48"))
    unreach6 = attribute(0x80, 15, bytes.fromhex("000201") + nlri("2001:db8::/48"))
    vpn = attribute(0x80, 14, bytes.fromhex("00194604") + bytes(4) + b"\0" + bytes(12))
    with up(direct, version, spoken) as wire:
        for each in (reach6, unreach6, vpn, attribute(0x80, 15, bytes.fromhex("001946") + bytes(12))):
            wire.send(update(ORIGIN + FOUR + each))
        wire.send(update(ORIGIN + FOUR + NEXT_HOP, nlri("192.0.2.0/24")))
        direct.until(lambda: (ip_network("192.0.2.0/24"), "") in folded(direct.messages), "the last of them")
        assert len(folded(direct.messages)) == 1
        assert not [line for line in direct.lines if b"2001:db8" in line]
        assert story(direct) == ["up"]


@versions
@pytest.mark.parametrize(
    ("capabilities", "marked"),
    [((), False), ((AS4,), False), ((graceful_restart(),), True), ((MULTIPROTOCOL[4],), True)],
    ids=["none", "four octets", "graceful restart", "multiprotocol"],
)
def test_end_of_rib_goes_to_who_can_read_it(
    direct: Direct,
    version: int,
    capabilities: Any,
    marked: bool,
) -> None:
    with up(direct, version, capabilities) as wire:
        direct.ask(f"neighbor {far(version)} announce eor ipv4 unicast")
        say(direct, version, 4)
        bodies: list[bytes] = []
        direct.until(lambda: peers(direct)[str(far(version))]["sent-updates"] > marked, "what is sent")
        while len(bodies) <= marked:
            got = wire.read()
            assert got is not None
            assert got[0] in (UPDATE, KEEPALIVE)
            bodies += [got[1]] * (got[0] == UPDATE)
        assert (bytes(4) in bodies) == marked
