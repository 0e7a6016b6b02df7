"""Router advertisements (RFC 4861) as routers exchange them to find one another on a link without addresses.

Bytes in, values out. What we send has a router lifetime of 0: it says that somebody is there, and makes
nobody's default route.
"""

from __future__ import annotations

import struct
from typing import Final

ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
#: A packet that a router has passed on has less (RFC 4861 section 6.1).
HOP_LIMIT: Final = 255

_SOURCE_LINK_LAYER: Final = 1
#: Type, code, checksum (the kernel's to fill in), hop limit, flags, lifetime, reachable and retransmission
#: time.
_ADVERTISEMENT: Final = struct.Struct("!BBHBBHII")
_SOLICITATION: Final = struct.Struct("!BBHI")


def advertisement(link_layer: bytes) -> bytes:
    """The ICMPv6 message (RFC 4861 section 4.2); `link_layer` is our Ethernet address, or empty."""
    return _ADVERTISEMENT.pack(ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0) + _source(link_layer)


def solicitation(link_layer: bytes) -> bytes:
    """Asks every router on the link for an advertisement now (section 4.1)."""
    return _SOLICITATION.pack(ROUTER_SOLICITATION, 0, 0, 0) + _source(link_layer)


def _source(link_layer: bytes) -> bytes:
    """The source link-layer address option (section 4.6.1), in units of eight octets."""
    if len(link_layer) != 6:
        return b""
    return struct.pack("!BB", _SOURCE_LINK_LAYER, 1) + link_layer


def message_type(message: bytes, hop_limit: int) -> int | None:
    """The type of a valid solicitation or advertisement (section 6.1); None for anything else."""
    if hop_limit != HOP_LIMIT or len(message) < _SOLICITATION.size or message[1] != 0:
        return None
    if message[0] == ROUTER_ADVERTISEMENT:
        return ROUTER_ADVERTISEMENT if len(message) >= _ADVERTISEMENT.size else None
    return ROUTER_SOLICITATION if message[0] == ROUTER_SOLICITATION else None
