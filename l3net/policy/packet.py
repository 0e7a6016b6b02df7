"""A packet that was logged, out of its first octets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from l3net.model import Address
from l3net.naming import PROTOCOL_NUMBERS

_NAMES: Final = {number: name for name, number in PROTOCOL_NUMBERS.items()} | {1: "icmp", 58: "icmpv6"}
#: Headers between IPv6's and what it carries that are as long as they say, in units of eight octets
#: (RFC 8200 section 4), and that of fragments, which is always one.
_EXTENSIONS: Final = frozenset((0, 43, 60))
_FRAGMENT: Final = 44
_PORTS: Final = frozenset(("tcp", "udp", "sctp"))


@dataclass(frozen=True, slots=True)
class Seen:
    """Ends, protocol by its name or number, and the ports where it has any and they were seen, else 0."""

    source: Address
    destination: Address
    protocol: str
    source_port: int = 0
    port: int = 0


def seen(packet: bytes) -> Seen | None:
    """None for what is no IP packet, or is cut before its addresses end."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        first = not int.from_bytes(packet[6:8], "big") & 0x1FFF
        return _seen(
            packet[12:16], packet[16:20], packet[9], packet[(packet[0] & 15) * 4 :] if first else b""
        )
    if version == 6 and len(packet) >= 40:
        number, rest = packet[6], packet[40:]
        while len(rest) >= 8 and (number in _EXTENSIONS or number == _FRAGMENT):
            length = 8 if number == _FRAGMENT else 8 * (rest[1] + 1)
            later = number == _FRAGMENT and int.from_bytes(rest[2:4], "big") & 0xFFF8
            number, rest = rest[0], b"" if later else rest[length:]
        return _seen(packet[8:24], packet[24:40], number, rest)
    return None


def _seen(source: bytes, destination: bytes, number: int, rest: bytes) -> Seen:
    protocol = _NAMES.get(number, str(number))
    ports = (0, 0)
    if protocol in _PORTS and len(rest) >= 4:
        ports = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
    return Seen(ip_address(source), ip_address(destination), protocol, *ports)
