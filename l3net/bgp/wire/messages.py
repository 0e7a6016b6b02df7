"""BGP messages as octets (RFC 4271 section 4), as far as a RIB can be told in them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from l3net.bgp.path import Attributes
from l3net.bgp.wire.attributes import MP_UNREACH_NLRI, attribute, path_attributes
from l3net.model import Address, Prefix

OPEN: Final = 1
UPDATE: Final = 2
NOTIFICATION: Final = 3
#: Octets of a message (RFC 4271 section 4.1; extended messages, RFC 8654, are not needed).
LONGEST: Final = 4096
_HEADER: Final = 19
_MARKER: Final = b"\xff" * 16
_AFI: Final = {4: 1, 6: 2}
_UNICAST: Final = 1
#: Stands in the two octets of an OPEN for an AS number that needs four (RFC 6793).
AS_TRANS: Final = 23456

#: A prefix with its path identifier (RFC 7911), empty without add-path: in four decimal octets.
Nlri = tuple[Prefix, str]


def message(kind: int, body: bytes) -> bytes:
    """With its header."""
    return _MARKER + struct.pack("!HB", _HEADER + len(body), kind) + body


def path_id(text: str) -> bytes:
    """A path identifier as ExaBGP tells it, `0.0.0.1`."""
    return bytes(map(int, text.split("."))) if text else b""


def nlri(prefix: Prefix, identifier: str = "") -> bytes:
    """RFC 4271 section 4.3, RFC 7911 section 3."""
    length = prefix.prefixlen
    octets = prefix.network_address.packed[: (length + 7) // 8]
    return path_id(identifier) + bytes([length]) + octets


def announcements(attributes: Attributes, next_hop: Address, paths: Iterable[Nlri]) -> Iterator[bytes]:
    """UPDATEs that announce prefixes of one family with the same attributes and next hop."""
    for version, part in _by_size(paths, LONGEST - _HEADER - 64 - _size_of(attributes)):
        if version == 4 and next_hop.version == 4:
            told = path_attributes(attributes, next_hop)
            yield message(UPDATE, struct.pack("!HH", 0, len(told)) + told + part)
        else:
            told = path_attributes(attributes, None, reach(version, next_hop, part))
            yield message(UPDATE, struct.pack("!HH", 0, len(told)) + told)


def withdrawals(paths: Iterable[Nlri]) -> Iterator[bytes]:
    """UPDATEs that withdraw prefixes of one family."""
    for version, part in _by_size(paths, LONGEST - _HEADER - 64):
        if version == 4:
            yield message(UPDATE, struct.pack("!H", len(part)) + part + b"\0\0")
        else:
            told = attribute(MP_UNREACH_NLRI, struct.pack("!HB", _AFI[version], _UNICAST) + part)
            yield message(UPDATE, struct.pack("!HH", 0, len(told)) + told)


def end_of_rib(version: int) -> bytes:
    """RFC 4724 section 2."""
    if version == 4:
        return message(UPDATE, b"\0\0\0\0")
    told = attribute(MP_UNREACH_NLRI, struct.pack("!HB", _AFI[version], _UNICAST))
    return message(UPDATE, struct.pack("!HH", 0, len(told)) + told)


def notification(code: int, subcode: int, text: str = "") -> bytes:
    """`text` goes with a shutdown or reset (RFC 9003)."""
    told = text.encode()[:255]
    said = bytes([len(told)]) + told if told else b""
    return message(NOTIFICATION, bytes([code, subcode]) + said)


def made_up_open(as_number: int, hold_time: int, router_id: bytes, versions: Iterable[int]) -> bytes:
    """An OPEN that says what is known of one that was not kept: families and four-octet AS numbers."""
    offered = b"".join(
        struct.pack("!BBHBB", 1, 4, _AFI[version], 0, _UNICAST) for version in sorted(versions)
    )
    offered += struct.pack("!BBL", 65, 4, as_number)
    optional = bytes([2, len(offered)]) + offered
    short = as_number if as_number <= 0xFFFF else AS_TRANS
    return message(
        OPEN, struct.pack("!BHH", 4, short, hold_time) + router_id + bytes([len(optional)]) + optional
    )


def reach(version: int, next_hop: Address, prefixes: bytes) -> bytes:
    """The value of MP_REACH_NLRI (RFC 4760 section 3; an IPv4 prefix with an IPv6 next hop: RFC 8950)."""
    hop = next_hop.packed
    return struct.pack("!HBB", _AFI[version], _UNICAST, len(hop)) + hop + b"\0" + prefixes


def _size_of(attributes: Attributes) -> int:
    """Octets of the attributes; what has no room for one prefix beside is told in a longer message."""
    return min(len(path_attributes(attributes, None)), LONGEST - 512)


def _by_size(paths: Iterable[Nlri], room: int) -> Iterator[tuple[int, bytes]]:
    """Prefixes as octets, as many as there is room for; all of one family, whose version comes with them."""
    part, version = bytearray(), 0
    for prefix, identifier in paths:
        one = nlri(prefix, identifier)
        if part and len(part) + len(one) > room:
            yield version, bytes(part)
            part.clear()
        part += one
        version = prefix.version
    if part:
        yield version, bytes(part)
