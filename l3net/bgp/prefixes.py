"""Prefixes of learned routes: the networks of `ipaddress`, made and hashed fast.

A path passes some ten tables on its way to the kernel, and `ipaddress` works a network's hash out anew each
time, which was a third of what a route cost. These are equal to, and hash as, the plain ones.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from l3net.model import Prefix


class _Network4(IPv4Network):
    """Of an address as a number and a length as `ipaddress` makes one, without its many forms of both; and
    without the function of its own that it gives a network of one or two addresses, a third of its memory."""

    def __init__(self, address: Any) -> None:
        if type(address) is tuple and type(address[0]) is int:
            value, length = address
            mask, bits = _mask4(length)
            self.network_address, self.netmask, self._prefixlen = IPv4Address(value & bits), mask, length
            self._known_hash = hash(value & bits ^ bits)
        else:
            super().__init__(address, False)
            self._known_hash = super().__hash__()

    def __hash__(self) -> int:
        return self._known_hash


class _Network6(IPv6Network):
    """As _Network4."""

    def __init__(self, address: Any) -> None:
        if type(address) is tuple and type(address[0]) is int:
            value, length = address
            mask, bits = _mask6(length)
            self.network_address, self.netmask, self._prefixlen = IPv6Address(value & bits), mask, length
            self._known_hash = hash(value & bits ^ bits)
        else:
            super().__init__(address, False)
            self._known_hash = super().__hash__()

    def __hash__(self) -> int:
        return self._known_hash


@cache
def _mask4(length: int) -> tuple[IPv4Address, int]:
    """Raises ValueError for what is no length, which is not remembered."""
    found = IPv4Network((0, length)).netmask
    return found, int(found)


@cache
def _mask6(length: int) -> tuple[IPv6Address, int]:
    """As _mask4."""
    found = IPv6Network((0, length)).netmask
    return found, int(found)


def network(address: bytes, length: int) -> Prefix:
    """Of 4 or 16 octets; bits beyond the length are passed over. Raises ValueError."""
    made = _Network4 if len(address) == 4 else _Network6
    return made((int.from_bytes(address), length))


def parse_prefix(text: str) -> Prefix:
    """`10.0.0.0/8`, `fd00::/8`, or an address. Raises ValueError.

    Bits beyond the length are irrelevant on the wire (RFC 4271 section 4.3), and ExaBGP keeps them.
    """
    address, slash, length = text.partition("/")
    if ":" in address:
        return _Network6((int(IPv6Address(address)), int(length) if slash else 128))
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is no IPv4 prefix")
    return _Network4((int.from_bytes(octets), int(length) if slash else 32))
