"""Prefixes as numbers, and the octets and words they come and go as. Used inside ExaBGP's process only."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

#: Bits of an address, by number of the address family (AFI).
BITS: Final = {1: 32, 2: 128}
NAMES: Final = {1: "ipv4 unicast", 2: "ipv6 unicast"}
_AF: Final = {1: socket.AF_INET, 2: socket.AF_INET6}
#: Where the parts of a key are: length, prefix, path identifier.
_PREFIX_AT: Final = 8
_PATH_AT: Final = _PREFIX_AT + 128
_PATH_IDS: Final = 1 << 32


def key_of(nlri: Any) -> int:
    """A prefix and its path identifier (RFC 7911) as a number; bits beyond the length do not count."""
    mask: int = nlri.cidr.mask
    packed: bytes = nlri.cidr._packed
    key = int.from_bytes(packed, "big") >> (len(packed) * 8 - mask) << _PREFIX_AT | mask
    path = nlri.path_info.path_info
    return key if not path else key | (_PATH_IDS | int.from_bytes(path, "big")) << _PATH_AT


def keys_of(family: int, octets: bytes) -> list[int] | None:
    """Of NLRI without path identifiers (RFC 4271 section 4.3); None where they are malformed."""
    keys: list[int] = []
    at, end, bits = 0, len(octets), BITS[family]
    number, add = int.from_bytes, keys.append
    while at < end:
        mask = octets[at]
        stop = at + 1 + (mask + 7 >> 3)
        if mask > bits or stop > end:
            return None
        add(number(octets[at + 1 : stop], "big") >> (-mask & 7) << _PREFIX_AT | mask)
        at = stop
    return keys


def octets_of(keys: Iterable[int]) -> bytes:
    """The other way; none of these has a path identifier."""
    parts = []
    for key in keys:
        mask = key & 0xFF
        parts.append(bytes((mask,)) + (key >> _PREFIX_AT << (-mask & 7)).to_bytes(mask + 7 >> 3, "big"))
    return b"".join(parts)


def has_path(key: int) -> bool:
    """Whether it has a path identifier."""
    return bool(key >> _PATH_AT)


def nlri_of(family: int, key: int) -> str:
    """A key as ExaBGP writes it in an event."""
    bits = BITS[family]
    mask = key & 0xFF
    number = (key >> _PREFIX_AT & ((1 << 128) - 1)) << (bits - mask)
    address = socket.inet_ntop(_AF[family], number.to_bytes(bits // 8, "big"))
    path = key >> _PATH_AT
    if not path:
        return f'{{ "nlri": "{address}/{mask}" }}'
    octets = ".".join(map(str, (path - _PATH_IDS).to_bytes(4, "big")))
    return f'{{ "nlri": "{address}/{mask}", "path-information": "{octets}" }}'


def nlris_of(family: int, keys: Iterable[int]) -> str:
    """A list of them."""
    return f"[ {', '.join(nlri_of(family, key) for key in keys)} ]"
