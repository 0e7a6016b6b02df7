"""Prefixes of learned routes, as they stand in UPDATEs and as text, made and hashed fast (l3net.numbered)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from l3net.model import Prefix
from l3net.numbered import Network4, Network6, mask4, mask6


def network(address: bytes, length: int) -> Prefix:
    """Of 4 or 16 octets; bits beyond the length are passed over. Raises ValueError."""
    made = Network4 if len(address) == 4 else Network6
    return made((int.from_bytes(address), length))


def unpacked(octets: bytes, version: int) -> list[Prefix]:
    """Prefixes as they stand in an UPDATE (RFC 4271 section 4.3), without path identifiers; bits beyond the
    length are passed over. Raises ValueError.

    A table comes this way, so that each is made of the two objects it is, without a call for either.
    """
    found: list[Prefix] = []
    kinds: tuple[Any, Any] = (Network4, IPv4Address) if version == 4 else (Network6, IPv6Address)
    bits, masks = (32, mask4) if version == 4 else (128, mask6)
    network, address = kinds
    new_network, new_address, number, add = int.__new__, address.__new__, int.from_bytes, found.append
    at, end, last, size, ones, added = 0, len(octets), -1, 0, 0, 0
    mask: Any = None
    while at < end:
        length = octets[at]
        if length != last:
            if length > bits:
                raise ValueError(f"a prefix of {length} bits among those of IPv{version}")
            mask, ones, added = masks(length)
            last, size = length, 1 + (length + 7 >> 3)
        start, at = at + 1, at + size
        if at > end:
            raise ValueError("the last prefix is cut short")
        value = number(octets[start:at]) << bits - 8 * (size - 1) & ones
        there = new_address(address)
        there._ip = value
        if version == 6:
            there._scope_id = None
        made = new_network(network, (value ^ ones) + added)
        made.network_address, made.netmask, made._prefixlen = there, mask, length
        add(made)
    return found


def parse_prefix(text: str) -> Prefix:
    """`10.0.0.0/8`, `fd00::/8`, or an address. Raises ValueError.

    Bits beyond the length are irrelevant on the wire (RFC 4271 section 4.3), and ExaBGP keeps them.
    """
    address, slash, length = text.partition("/")
    if ":" in address:
        return Network6((int(IPv6Address(address)), int(length) if slash else 128))
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is not an IPv4 prefix")
    return Network4((int.from_bytes(octets), int(length) if slash else 32))
