"""BGP messages as bytes, good ones and such as no good speaker would say."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from wire_speaker import KEEPALIVE, MARKER, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, message

__all__ = ["KEEPALIVE", "MARKER", "NOTIFICATION", "OPEN", "ROUTE_REFRESH", "UPDATE", "message"]

#: RFC 6793: what stands for an AS number of four octets where there is room for two.
AS_TRANS = 23456
OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10
WELL_KNOWN = TRANSITIVE
ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, ATOMIC_AGGREGATE, AGGREGATOR = range(1, 8)
COMMUNITIES, ORIGINATOR_ID, CLUSTER_LIST = 8, 9, 10
MP_REACH, MP_UNREACH, EXTENDED_COMMUNITIES = 14, 15, 16
AS4_PATH, AS4_AGGREGATOR, LARGE_COMMUNITIES = 17, 18, 32
AS_SET, AS_SEQUENCE, AS_CONFED_SEQUENCE, AS_CONFED_SET = 1, 2, 3, 4
#: RFC 4724: flags of the capability, and of a family in it. RFC 8538: the N flag.
RESTARTED, NOTIFIES, FORWARDS = 0x8, 0x4, 0x80


def framed(kind: int, body: bytes = b"", *, length: int | None = None, marker: bytes = MARKER) -> bytes:
    """A message whose header may say something else than there is."""
    return marker + struct.pack("!HB", 19 + len(body) if length is None else length, kind) + body


# --- OPEN ------------------------------------------------------------------------------------------------


def capability(code: int, value: bytes = b"") -> bytes:
    return struct.pack("!BB", code, len(value)) + value


def multiprotocol(afi: int, safi: int = 1) -> bytes:
    return capability(1, struct.pack("!HBB", afi, 0, safi))


REFRESH = capability(2)
EXTENDED_MESSAGE = capability(6)
ENHANCED_REFRESH = capability(70)
BOTH_FAMILIES = multiprotocol(1) + multiprotocol(2)


def four_octets(as_number: int) -> bytes:
    return capability(65, struct.pack("!I", as_number))


def graceful(seconds: int, families: Iterable[tuple[int, int]], flags: int = 0) -> bytes:
    """RFC 4724 section 3; each family is (AFI, flags)."""
    listed = b"".join(struct.pack("!HBB", afi, 1, bits) for afi, bits in families)
    return capability(64, struct.pack("!H", flags << 12 | seconds) + listed)


def parameter(kind: int, value: bytes) -> bytes:
    """An optional parameter."""
    return struct.pack("!BB", kind, len(value)) + value


def extended_parameter(kind: int, value: bytes) -> bytes:
    """RFC 9072 section 2: with a length of two octets."""
    return struct.pack("!BH", kind, len(value)) + value


def opening(
    as_number: int,
    identifier: str,
    parameters: bytes,
    *,
    hold_time: int = 90,
    version: int = 4,
    length: int | None = None,
) -> bytes:
    """An OPEN; `length` is that of the optional parameters, where it is not what there is."""
    short = as_number if as_number <= 0xFFFF else AS_TRANS
    said = len(parameters) if length is None else length
    head = struct.pack("!BHH4sB", version, short, hold_time, ip_address(identifier).packed, said)
    return message(OPEN, head + parameters)


def opening_extended(
    as_number: int, identifier: str, parameters: bytes, *, hold_time: int = 90, non_extended: int = 255,
    length: int | None = None,
) -> bytes:  # fmt: skip
    """RFC 9072: the optional parameters' length has two octets, after two that are 255."""
    said = len(parameters) if length is None else length
    extended = struct.pack("!BH", 255, said) + parameters
    return opening(as_number, identifier, extended, hold_time=hold_time, length=non_extended)


# --- UPDATE ----------------------------------------------------------------------------------------------


def nlri(prefix: str) -> bytes:
    network = ip_network(prefix)
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def attribute(flags: int, code: int, value: bytes) -> bytes:
    if len(value) > 0xFF:
        return struct.pack("!BBH", flags | EXTENDED, code, len(value)) + value
    return struct.pack("!BBB", flags, code, len(value)) + value


def segment(kind: int, *numbers: int, wide: bool = True) -> bytes:
    packed = b"".join(struct.pack("!I" if wide else "!H", number) for number in numbers)
    return bytes([kind, len(numbers)]) + packed


def path(*numbers: int, wide: bool = True) -> bytes:
    """AS_PATH, of a sequence; `wide`: with AS numbers of four octets."""
    return attribute(WELL_KNOWN, AS_PATH, segment(AS_SEQUENCE, *numbers, wide=wide) if numbers else b"")


ORIGIN_IGP = attribute(WELL_KNOWN, ORIGIN, b"\0")


def next_hop(address: str) -> bytes:
    return attribute(WELL_KNOWN, NEXT_HOP, ip_address(address).packed)


def reach(hop: str | bytes, prefixes: bytes, afi: int = 2, safi: int = 1) -> bytes:
    """MP_REACH_NLRI (RFC 4760)."""
    packed = hop if isinstance(hop, bytes) else ip_address(hop).packed
    value = struct.pack("!HBB", afi, safi, len(packed)) + packed + b"\0" + prefixes
    return attribute(OPTIONAL, MP_REACH, value)


def unreach(prefixes: bytes, afi: int = 2, safi: int = 1) -> bytes:
    return attribute(OPTIONAL, MP_UNREACH, struct.pack("!HB", afi, safi) + prefixes)


def update(attributes: bytes, routes: bytes = b"", withdrawn: bytes = b"") -> bytes:
    body = struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes
    return message(UPDATE, body + routes)


#: RFC 4724 section 2.
END_OF_RIB = {4: update(b""), 6: update(unreach(b""))}


def route_refresh(afi: int, safi: int = 1, subtype: int = 0, more: bytes = b"") -> bytes:
    """RFC 2918, and the subtypes of RFC 7313: 1 for BoRR, 2 for EoRR."""
    return message(ROUTE_REFRESH, struct.pack("!HBB", afi, subtype, safi) + more)


def notification(code: int, subcode: int, more: bytes = b"") -> bytes:
    return message(NOTIFICATION, bytes([code, subcode]) + more)
