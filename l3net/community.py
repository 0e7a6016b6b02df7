"""BGP communities: standard, large and extended ones, and the text that users write and see.

A community is a frozen value; `parse_community` reads what `str` writes, the well-known names besides.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TypeAlias

_TWO_OCTETS = 2**16 - 1
_FOUR_OCTETS = 2**32 - 1
#: The bit of an extended community's type that keeps it inside the AS (RFC 4360 section 2).
_NON_TRANSITIVE = 0x40
#: Types by what the administrator field holds (RFC 4360 sections 3.1 and 3.2, RFC 5668).
_AS2, _IPV4, _AS4 = 0x00, 0x01, 0x02
#: Sub-types that all three share (RFC 4360 sections 4 and 5).
_ROUTE_SUBTYPES: Mapping[str, int] = {"rt": 0x02, "soo": 0x03}
_ROUTE_NAMES = {subtype: name for name, subtype in _ROUTE_SUBTYPES.items()}
_LINK_BANDWIDTH = 0x04
#: FlowSpec's traffic-rate-bytes and traffic-rate-packets (RFC 8955 section 7).
_RATES = frozenset({0x06, 0x0C})
_BANDWIDTH_TYPES: Mapping[str, int] = {
    "bandwidth": _AS2 | _NON_TRANSITIVE,  # draft-ietf-idr-link-bandwidth
    "bandwidth-transitive": _AS2,  # what FRR sends unless told otherwise
}
_BANDWIDTH_NAMES = {kind: name for name, kind in _BANDWIDTH_TYPES.items()}
#: Digits of a link bandwidth in octets per second: beyond any link, and below what a float32 can hold.
_BANDWIDTH_DIGITS = 18


@dataclass(frozen=True, slots=True, order=True)
class Community:
    """A standard (RFC 1997, two parts) or large (RFC 8092, three parts) community, numeric."""

    parts: tuple[int, ...]

    def __str__(self) -> str:
        return ":".join(map(str, self.parts))


@dataclass(frozen=True, slots=True, order=True)
class ExtendedCommunity:
    """An extended community (RFC 4360): its eight octets as on the wire, type and sub-type first."""

    octets: bytes

    @property
    def transitive(self) -> bool:
        """Whether it may leave the AS it was received in (RFC 4360 section 6)."""
        return not self.octets[0] & _NON_TRANSITIVE

    @property
    def is_link_bandwidth(self) -> bool:
        """Whether it is a link bandwidth community (draft-ietf-idr-link-bandwidth), transitive or not."""
        return self.octets[1] == _LINK_BANDWIDTH and self.octets[0] in _BANDWIDTH_NAMES

    @property
    def link_bandwidth(self) -> float | None:
        """Octets per second, if it is a link bandwidth community with a bandwidth to divide by, else None."""
        if not self.is_link_bandwidth:
            return None
        value = float(struct.unpack("!f", self.octets[4:])[0])
        return value if math.isfinite(value) and value > 0 else None

    def __str__(self) -> str:
        kind, subtype = self.octets[0], self.octets[1]
        if subtype in _ROUTE_NAMES:
            name = _ROUTE_NAMES[subtype]
            if kind == _AS2:
                administrator, value = struct.unpack("!HL", self.octets[2:])
                return f"{name}:{administrator}:{value}"
            if kind == _IPV4:
                address, value = struct.unpack("!4sH", self.octets[2:])
                return f"{name}:{IPv4Address(address)}:{value}"
            if kind == _AS4:
                administrator, value = struct.unpack("!LH", self.octets[2:])
                mark = "L" if administrator <= _TWO_OCTETS else ""
                return f"{name}:{administrator}{mark}:{value}"
        if self.is_link_bandwidth:
            administrator, speed = struct.unpack("!Hf", self.octets[2:])
            positive = self.octets[4] < 0x80  # not -0.0, which would be read as 0
            if positive and speed.is_integer() and speed < 10**_BANDWIDTH_DIGITS:
                return f"{_BANDWIDTH_NAMES[kind]}:{administrator}:{int(speed)}"
        return f"raw:0x{self.octets.hex()}"


AnyCommunity: TypeAlias = Community | ExtendedCommunity

#: Well-known communities that decide something here (IANA's registry).
GRACEFUL_SHUTDOWN = Community((65535, 0))  # RFC 8326
LLGR_STALE = Community((65535, 6))  # RFC 9494
NO_LLGR = Community((65535, 7))  # RFC 9494
BLACKHOLE = Community((65535, 666))  # RFC 7999
NO_EXPORT = Community((65535, 65281))  # RFC 1997
NO_ADVERTISE = Community((65535, 65282))  # RFC 1997

#: The names that stand for a number.
WELL_KNOWN: Mapping[str, Community] = {
    "graceful-shutdown": GRACEFUL_SHUTDOWN,
    "llgr-stale": LLGR_STALE,
    "no-llgr": NO_LLGR,
    "blackhole": BLACKHOLE,
    "no-export": NO_EXPORT,
    "no-advertise": NO_ADVERTISE,
    "no-export-subconfed": Community((65535, 65283)),  # RFC 1997
    "no-peer": Community((65535, 65284)),  # RFC 3765
}

#: What `parse_community` reads, in one line.
FORMS = (
    "AS:value, AS:value:value, rt:AS:value, soo:AS:value (or with an IPv4 address for AS), "
    f"bandwidth:AS:octets-per-second, raw:0x and 16 hex digits, or {', '.join(WELL_KNOWN)}"
)


def parse_community(text: str) -> AnyCommunity:
    """A community out of its text. ValueError says what is wrong with it."""
    known = WELL_KNOWN.get(text)
    if known is not None:
        return known
    kind, _, rest = text.partition(":")
    if kind in _ROUTE_SUBTYPES:
        return _route(text, _ROUTE_SUBTYPES[kind], *_pair(text, rest))
    if kind in _BANDWIDTH_TYPES:
        return _bandwidth(text, _BANDWIDTH_TYPES[kind], *_pair(text, rest))
    if kind == "raw":
        return _raw(text, rest)
    return _numeric(text)


def _numeric(text: str) -> Community:
    words = text.split(":")
    if len(words) not in (2, 3):
        raise _unreadable(text)
    parts = tuple(_number(text, word) for word in words)
    limit = _TWO_OCTETS if len(parts) == 2 else _FOUR_OCTETS
    if any(part > limit for part in parts):
        kind = "standard community (RFC 1997)" if len(parts) == 2 else "large community (RFC 8092)"
        raise ValueError(f"{text} is out of range: each part of a {kind} is at most {limit}")
    return Community(parts)


def _route(text: str, subtype: int, administrator: str, value: str) -> ExtendedCommunity:
    """Route target or route origin: two octets of AS and four of value, or four and two."""
    number = _number(text, value)
    if "." in administrator:
        try:
            head = struct.pack("!BB4s", _IPV4, subtype, IPv4Address(administrator).packed)
        except AddressValueError as err:
            raise ValueError(f"{text}: {err}") from None
        whose = "an IPv4 address"
    else:
        as_number = _number(text, administrator.removesuffix("L"))
        if as_number > _FOUR_OCTETS:
            raise ValueError(f"{text} is out of range: an AS number is at most {_FOUR_OCTETS}")
        if as_number <= _TWO_OCTETS and not administrator.endswith("L"):
            if number > _FOUR_OCTETS:
                raise ValueError(f"{text} is out of range: the value is at most {_FOUR_OCTETS}")
            return ExtendedCommunity(struct.pack("!BBHL", _AS2, subtype, as_number, number))
        head = struct.pack("!BBL", _AS4, subtype, as_number)
        whose = "an AS number of four octets (RFC 5668)"
    if number > _TWO_OCTETS:
        raise ValueError(f"{text} is out of range: after {whose} the value is at most {_TWO_OCTETS}")
    return ExtendedCommunity(head + struct.pack("!H", number))


def _bandwidth(text: str, kind: int, administrator: str, speed: str) -> ExtendedCommunity:
    """The bandwidth is an IEEE 754 float of four octets: some seven digits of it count."""
    as_number = _number(text, administrator)
    if as_number > _TWO_OCTETS:
        raise ValueError(
            f"{text} is out of range: a link bandwidth has an AS number of two octets; for a longer one "
            "write 23456 (AS_TRANS, RFC 6793)"
        )
    if len(speed) > _BANDWIDTH_DIGITS:
        raise ValueError(f"{text} is out of range: a bandwidth has at most {_BANDWIDTH_DIGITS} digits")
    octets = float(_number(text, speed))
    return ExtendedCommunity(struct.pack("!BBHf", kind, _LINK_BANDWIDTH, as_number, octets))


def _raw(text: str, rest: str) -> ExtendedCommunity:
    digits = rest.removeprefix("0x")
    try:
        octets = bytes.fromhex(digits) if rest.startswith("0x") and len(digits) == 16 else b""
    except ValueError:
        octets = b""
    if len(octets) != 8:
        raise ValueError(f"{text} is not an extended community: eight octets, raw:0x and 16 hex digits")
    if octets[0] & 0x0F == _AS2 and octets[1] in _RATES and not _is_rate(octets):
        raise ValueError(f"{text} is a FlowSpec rate (RFC 8955 section 7) that is not a number")
    return ExtendedCommunity(octets)


def _is_rate(octets: bytes) -> bool:
    """ExaBGP 5.0.15 refuses to announce a route with any other, and takes one with it for withdrawn."""
    return math.isfinite(struct.unpack("!f", octets[4:])[0])


def _pair(text: str, rest: str) -> tuple[str, str]:
    first, colon, second = rest.partition(":")
    if not colon:
        raise _unreadable(text)
    return first, second


def _number(text: str, word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise _unreadable(text)
    return int(word)


def _unreadable(text: str) -> ValueError:
    return ValueError(f"{text} is not a community; write {FORMS}")
