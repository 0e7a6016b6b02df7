"""Prefixes of learned routes: the networks of `ipaddress`, made and hashed fast.

A path passes some ten tables on its way to the kernel, and `ipaddress` works a network's hash out anew each
time, which was a third of what a route cost. These are equal to, and hash as, the plain ones.

Each is a number too, for the sake of its hash and its equality, which are then no calls of functions: such
calls, ten a path, were a third of what a table cost. A network hashes as the number of its address xor its
netmask. To that a multiple of Python's modulus for hashes is added, which changes no hash, and by which two
networks are the same number only where they are equal: another one for each length, larger ones for IPv6.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import attrgetter
from sys import hash_info
from typing import Any, Self

from l3net.model import Prefix

_PREFIXLEN: Any = property(attrgetter("_prefixlen"))
#: What a length adds to the number of a network, above what an address and a netmask can be.
_STEP4 = hash_info.modulus
_STEP6 = hash_info.modulus << 128


def _parts(address: Any, plain: Any) -> tuple[int, int]:
    """An address as a number, and a length, out of whatever `ipaddress` takes; host bits are passed over.
    Raises ValueError."""
    if type(address) is tuple and type(address[0]) is int:
        return address[0], int(address[1])
    made = plain(address, False)
    return int(made.network_address), made.prefixlen


class _Network4(IPv4Network, int):  # type: ignore[misc]
    """Of an address as a number and a length as `ipaddress` makes one, without its many forms of both; and
    without the function of its own that it gives a network of one or two addresses, a third of its memory.

    What else `int` would answer in another way than a network is taken back.
    """

    def __new__(cls, address: Any) -> Self:
        value, length = _parts(address, IPv4Network)
        bits, added = _mask4(length)[1:]
        return int.__new__(cls, (value & bits ^ bits) + added)

    def __init__(self, address: Any) -> None:
        value, length = _parts(address, IPv4Network)
        mask, bits, _ = _mask4(length)
        self.network_address, self.netmask, self._prefixlen = IPv4Address(value & bits), mask, length

    #: As the properties that `ipaddress` has, which call functions.
    version = 4
    max_prefixlen = 32
    prefixlen = _PREFIXLEN
    __hash__ = int.__hash__
    __eq__ = int.__eq__
    __ne__ = int.__ne__
    __format__ = object.__format__


class _Network6(IPv6Network, int):  # type: ignore[misc]
    """As _Network4."""

    def __new__(cls, address: Any) -> Self:
        value, length = _parts(address, IPv6Network)
        bits, added = _mask6(length)[1:]
        return int.__new__(cls, (value & bits ^ bits) + added)

    def __init__(self, address: Any) -> None:
        value, length = _parts(address, IPv6Network)
        mask, bits, _ = _mask6(length)
        self.network_address, self.netmask, self._prefixlen = IPv6Address(value & bits), mask, length

    #: As the properties that `ipaddress` has, which call functions.
    version = 6
    max_prefixlen = 128
    prefixlen = _PREFIXLEN
    __hash__ = int.__hash__
    __eq__ = int.__eq__
    __ne__ = int.__ne__
    __format__ = object.__format__


@cache
def _mask4(length: int) -> tuple[IPv4Address, int, int]:
    """The netmask, as a number, and what the length adds to a network's number. Raises ValueError for what is
    no length, which is not remembered."""
    found = IPv4Network((0, length)).netmask
    return found, int(found), (length + 1) * _STEP4


@cache
def _mask6(length: int) -> tuple[IPv6Address, int, int]:
    """As _mask4."""
    found = IPv6Network((0, length)).netmask
    return found, int(found), (length + 1) * _STEP6


def network(address: bytes, length: int) -> Prefix:
    """Of 4 or 16 octets; bits beyond the length are passed over. Raises ValueError."""
    made = _Network4 if len(address) == 4 else _Network6
    return made((int.from_bytes(address), length))


def unpacked(octets: bytes, version: int) -> list[Prefix]:
    """Prefixes as they stand in an UPDATE (RFC 4271 section 4.3), without path identifiers; bits beyond the
    length are passed over. Raises ValueError.

    A table comes this way, so that each is made of the two objects it is, without a call for either.
    """
    found: list[Prefix] = []
    kinds: tuple[Any, Any] = (_Network4, IPv4Address) if version == 4 else (_Network6, IPv6Address)
    bits, masks = (32, _mask4) if version == 4 else (128, _mask6)
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
        return _Network6((int(IPv6Address(address)), int(length) if slash else 128))
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is not an IPv4 prefix")
    return _Network4((int.from_bytes(octets), int(length) if slash else 32))
