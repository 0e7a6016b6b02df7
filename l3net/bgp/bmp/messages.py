"""BMP messages as octets (RFC 7854 section 4)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from l3net.model import Address

_VERSION: Final = 3
_HEADER: Final = 6

#: Flags of the per-peer header (section 4.2; RFC 8671 section 4).
_IPV6: Final = 0x80
_POST_POLICY: Final = 0x40
_ADJ_RIB_OUT: Final = 0x10
#: Longest text of a TLV that is sent.
_LONGEST: Final = 255


class Kind(enum.IntEnum):
    """Types of messages."""

    ROUTE_MONITORING = 0
    STATISTICS_REPORT = 1
    PEER_DOWN = 2
    PEER_UP = 3
    INITIATION = 4
    TERMINATION = 5


class Statistic(enum.IntEnum):
    """Gauges of a Statistics Report (section 4.8, RFC 8671 section 6.2)."""

    ADJ_RIB_IN = 7
    ADJ_RIB_IN_OF_FAMILY = 9
    ADJ_RIB_OUT = 15  # after policy
    ADJ_RIB_OUT_OF_FAMILY = 17


@dataclass(frozen=True, slots=True)
class Monitored:
    """A peer as each of its messages names it: `router_id` is that of its OPEN."""

    address: Address
    as_number: int
    router_id: IPv4Address


@dataclass(frozen=True, slots=True)
class Opens:
    """Of a session: both OPENs, whole, and the ends of its connection. A port is 0 where it is not known."""

    sent: bytes
    received: bytes
    local: Address
    local_port: int = 0
    remote_port: int = 0


def initiation(name: str, description: str) -> bytes:
    """The first message (section 4.3)."""
    return _message(Kind.INITIATION, _text(2, name) + _text(1, description))


def termination(reason: int = 0) -> bytes:
    """The last one (section 4.5); 0: administratively closed."""
    return _message(Kind.TERMINATION, struct.pack("!HHH", 1, 2, reason))


def peer_up(peer: Monitored, opens: Opens, at: float) -> bytes:
    """Section 4.10. `at` in seconds since 1970, as everywhere here."""
    ends = _sixteen(opens.local) + struct.pack("!HH", opens.local_port, opens.remote_port)
    return _message(Kind.PEER_UP, _per_peer(peer, 0, at) + ends + opens.sent + opens.received)


def peer_down(peer: Monitored, why: bytes, at: float) -> bytes:
    """Section 4.9. `why` is of `l3net.bgp.bmp.ending`."""
    return _message(Kind.PEER_DOWN, _per_peer(peer, 0, at) + why)


def route_monitoring(peer: Monitored, update: bytes, at: float, *, out: bool) -> bytes:
    """Section 4.6: an UPDATE of the Adj-RIB-In before policy, or of the Adj-RIB-Out after it. `at` is 0 for
    what was there before: when it came is not known."""
    flags = _ADJ_RIB_OUT | _POST_POLICY if out else 0
    return _message(Kind.ROUTE_MONITORING, _per_peer(peer, flags, at) + update)


def statistics(peer: Monitored, at: float, received: Mapping[int, int], sent: Mapping[int, int]) -> bytes:
    """Section 4.8. Routes by version of IP."""
    rows: list[bytes] = []
    for whole, by_family, counts in (
        (Statistic.ADJ_RIB_IN, Statistic.ADJ_RIB_IN_OF_FAMILY, received),
        (Statistic.ADJ_RIB_OUT, Statistic.ADJ_RIB_OUT_OF_FAMILY, sent),
    ):
        rows.append(struct.pack("!HHQ", whole, 8, sum(counts.values())))
        rows += (
            struct.pack("!HHHBQ", by_family, 11, {4: 1, 6: 2}[version], 1, count)
            for version, count in sorted(counts.items())
        )
    return _message(
        Kind.STATISTICS_REPORT, _per_peer(peer, 0, at) + struct.pack("!L", len(rows)) + b"".join(rows)
    )


def _message(kind: Kind, body: bytes) -> bytes:
    return struct.pack("!BLB", _VERSION, _HEADER + len(body), kind) + body


def _per_peer(peer: Monitored, flags: int, at: float) -> bytes:
    """Section 4.2. AS numbers in AS_PATHs have four octets: the A flag is never set."""
    flags |= _IPV6 if peer.address.version == 6 else 0
    seconds, rest = divmod(at, 1)
    return (
        struct.pack("!BB8x", 0, flags)
        + _sixteen(peer.address)
        + struct.pack("!L", peer.as_number)
        + peer.router_id.packed
        + struct.pack("!LL", int(seconds) & 0xFFFFFFFF, int(rest * 1_000_000))
    )


def _sixteen(address: Address) -> bytes:
    return address.packed.rjust(16, b"\0")


def _text(kind: int, text: str) -> bytes:
    octets = text.encode()[:_LONGEST]
    return struct.pack("!HH", kind, len(octets)) + octets
