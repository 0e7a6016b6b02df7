"""Values as nft writes them, by their kind, as what is compared: numbers, and names as text."""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import Any

from packets.packet import FLAGS, NUMBERS


class UnknownError(Exception):
    """Text that this is no interpreter for."""


STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
INVALID, ESTABLISHED, RELATED, NEW, UNTRACKED = STATES.values()
DNAT, SNAT = 32, 16
STATUS = {"snat": SNAT, "dnat": DNAT, "seen-reply": 2, "assured": 4, "confirmed": 8, "expected": 1}
_ICMP = {"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8, "time-exceeded": 11}
_ICMPV6 = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "nd-router-solicit": 133, "nd-router-advert": 134,
    "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137,
}  # fmt: skip
_NAMES: dict[str, dict[str, int]] = {
    "protocol": NUMBERS,
    "family": {"ipv4": 4, "ipv6": 6},
    "state": STATES,
    "status": STATUS,
    "flags": FLAGS,
    "icmp": _ICMP,
    "icmpv6": _ICMPV6,
    "port": {},
    "number": {},
    "mark": {},
}
#: The kinds of which a value is a bit, so that one of several is enough.
BITS = frozenset({"state", "status", "flags"})
_WORDS = {"fibtype": {"local", "unicast", "broadcast", "multicast", "anycast", "blackhole"}}
_WORDS["direction"] = {"original", "reply"}
_WORDS["pkttype"] = {"host", "broadcast", "multicast", "other"}
FULL = {"4": 32, "6": 128}


def number_of(address: str, version: int) -> int:
    """An address as a number."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        return int.from_bytes(socket.inet_pton(family, address), "big")
    except OSError:
        raise UnknownError(f"{address} is no address of IPv{version}") from None


@lru_cache(maxsize=1 << 16)
def value(kind: str, text: str) -> Any:
    """One value. Raises UnknownError."""
    if kind in FULL:
        return number_of(text, int(kind))
    if kind in _NAMES:
        found = _NAMES[kind].get(text)
        if found is not None:
            return found
        try:
            return int(text, 0)
        except ValueError:
            raise UnknownError(f"{text} is no {kind}") from None
    if kind == "name":
        return text.strip('"')
    if kind == "mac":
        return text.lower()
    if text in _WORDS.get(kind, ()):
        return text
    raise UnknownError(f"{text} is no {kind}")


def span(kind: str, text: str) -> tuple[int, int] | None:
    """The first and the last of a prefix or a range; None: it is a single value."""
    if kind in FULL and "/" in text:
        address, _, length = text.partition("/")
        first = value(kind, address)
        size = 1 << (FULL[kind] - int(length))
        if first & (size - 1):
            raise UnknownError(f"{text} has bits behind its length")
        return first, first + size - 1
    if kind in ("port", "number", "protocol", "4", "6") and "-" in text:
        low, _, high = text.partition("-")
        if low and (kind in FULL or low.isdigit()):
            return value(kind, low), value(kind, high)
    return None


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """As in 1h30m."""
    parts = re.findall(r"(\d+)(ms|s|m|h|d)", text)
    if "".join(number + unit for number, unit in parts) != text or not text:
        raise UnknownError(f"{text} is no time")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))
