"""Path attributes as octets (RFC 4271 section 4.3), with AS numbers of four octets (RFC 6793)."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from l3net.bgp.path import Attributes
from l3net.bgp.segments import runs
from l3net.community import Community, ExtendedCommunity
from l3net.model import Address

ORIGIN: Final = 1
AS_PATH: Final = 2
NEXT_HOP: Final = 3
MULTI_EXIT_DISC: Final = 4
LOCAL_PREF: Final = 5
COMMUNITIES: Final = 8  # RFC 1997
ORIGINATOR_ID: Final = 9  # RFC 4456
CLUSTER_LIST: Final = 10
MP_REACH_NLRI: Final = 14  # RFC 4760
MP_UNREACH_NLRI: Final = 15
EXTENDED_COMMUNITIES: Final = 16  # RFC 4360
LARGE_COMMUNITIES: Final = 32  # RFC 8092

_WELL_KNOWN: Final = 0x40
_OPTIONAL: Final = 0x80
_OPTIONAL_TRANSITIVE: Final = 0xC0
_EXTENDED_LENGTH: Final = 0x10
_FLAGS: Final = {
    ORIGIN: _WELL_KNOWN,
    AS_PATH: _WELL_KNOWN,
    NEXT_HOP: _WELL_KNOWN,
    LOCAL_PREF: _WELL_KNOWN,
    MULTI_EXIT_DISC: _OPTIONAL,
    ORIGINATOR_ID: _OPTIONAL,
    CLUSTER_LIST: _OPTIONAL,
    MP_REACH_NLRI: _OPTIONAL,
    MP_UNREACH_NLRI: _OPTIONAL,
    COMMUNITIES: _OPTIONAL_TRANSITIVE,
    EXTENDED_COMMUNITIES: _OPTIONAL_TRANSITIVE,
    LARGE_COMMUNITIES: _OPTIONAL_TRANSITIVE,
}
#: AS numbers in one segment.
_MOST: Final = 255


def attribute(code: int, value: bytes) -> bytes:
    """One attribute with its header."""
    flags = _FLAGS[code]
    if len(value) > 0xFF:
        return struct.pack("!BBH", flags | _EXTENDED_LENGTH, code, len(value)) + value
    return struct.pack("!BBB", flags, code, len(value)) + value


@lru_cache(maxsize=4096)
def before_next_hop(attributes: Attributes) -> bytes:
    """ORIGIN and AS_PATH, which come first where attributes are in order of their codes."""
    segments = b"".join(
        struct.pack(f"!BB{len(part)}L", kind, len(part), *part)
        for kind, numbers in runs(attributes)
        for part in (numbers[start : start + _MOST] for start in range(0, len(numbers), _MOST))
    )
    return attribute(ORIGIN, bytes([attributes.origin])) + attribute(AS_PATH, segments)


@lru_cache(maxsize=4096)
def after_next_hop(attributes: Attributes) -> tuple[bytes, bytes]:
    """What comes between NEXT_HOP and MP_REACH_NLRI, and what follows."""
    standard: list[tuple[int, ...]] = []
    large: list[tuple[int, ...]] = []
    extended: list[bytes] = []
    for each in attributes.communities:
        if isinstance(each, ExtendedCommunity):
            extended.append(each.octets)
        elif isinstance(each, Community):
            (standard if len(each.parts) == 2 else large).append(each.parts)
    first = b""
    if attributes.med is not None:
        first += attribute(MULTI_EXIT_DISC, struct.pack("!L", attributes.med))
    if attributes.local_preference is not None:
        first += attribute(LOCAL_PREF, struct.pack("!L", attributes.local_preference))
    if standard:
        first += attribute(COMMUNITIES, b"".join(struct.pack("!HH", *parts) for parts in sorted(standard)))
    if attributes.originator is not None:
        first += attribute(ORIGINATOR_ID, attributes.originator.packed)
    if attributes.clusters:
        first += attribute(CLUSTER_LIST, b"".join(cluster.packed for cluster in attributes.clusters))
    then = b""
    if extended:
        then += attribute(EXTENDED_COMMUNITIES, b"".join(sorted(extended)))
    if large:
        then += attribute(LARGE_COMMUNITIES, b"".join(struct.pack("!LLL", *parts) for parts in sorted(large)))
    return first, then


def path_attributes(attributes: Attributes, next_hop: Address | None, reach: bytes = b"") -> bytes:
    """All of a path, in order of their codes. `next_hop`: for NEXT_HOP, with an IPv4 one; `reach`: the value
    of MP_REACH_NLRI."""
    first, then = after_next_hop(attributes)
    hop = attribute(NEXT_HOP, next_hop.packed) if next_hop is not None else b""
    multiprotocol = attribute(MP_REACH_NLRI, reach) if reach else b""
    return before_next_hop(attributes) + hop + first + multiprotocol + then
