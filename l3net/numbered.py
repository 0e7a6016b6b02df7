"""Networks of `ipaddress` that are numbers too, for the sake of their hash and their equality.

A path passes some ten tables on its way to the kernel, and a service's address as many; `ipaddress` works a
network's hash out anew each time, by calls of functions that were a third of what a table cost. A number's
hash and equality are no such calls.

A network hashes as the number of its address xor its netmask. To that a multiple of Python's modulus for
hashes is added, which changes no hash, and by which two networks are the same number only where they are
equal: another multiple for each length, larger ones for IPv6. So these are equal to, and hash as, the plain
ones. What else `int` would answer in another way than a network is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import attrgetter
from sys import hash_info
from typing import Any, ClassVar, Final, Self

_PREFIXLEN: Any = property(attrgetter("_prefixlen"))
#: What a length adds to the number of a network, above what an address and a netmask can be.
_STEP4: Final = hash_info.modulus
_STEP6: Final = hash_info.modulus << 128


def _parts(address: Any, plain: Any) -> tuple[int, int]:
    """An address as a number, and a length, out of whatever `ipaddress` takes; host bits are passed over.
    Raises ValueError."""
    if type(address) is tuple and type(address[0]) is int:
        return address[0], int(address[1])
    made = plain(address, False)
    return int(made.network_address), made.prefixlen


@cache
def mask4(length: int) -> tuple[IPv4Address, int, int]:
    """The netmask, as a number, and what the length adds to a network's number. Raises ValueError for what is
    no length, which is not remembered."""
    found = IPv4Network((0, length)).netmask
    return found, int(found), (length + 1) * _STEP4


@cache
def mask6(length: int) -> tuple[IPv6Address, int, int]:
    """As mask4."""
    found = IPv6Network((0, length)).netmask
    return found, int(found), (length + 1) * _STEP6


class _Numbered:
    """Of an address as a number and a length as `ipaddress` makes one, without its many forms of both; and
    without the function of its own that it gives a network of one or two addresses, a third of its memory.
    """

    __slots__ = ()
    _plain: ClassVar[Any]
    _single: ClassVar[Any]
    _mask: ClassVar[Callable[[int], tuple[Any, int, int]]]

    def __new__(cls, address: Any) -> Self:
        value, length = _parts(address, cls._plain)
        bits, added = cls._mask(length)[1:]
        made: Self = int.__new__(cls, (value & bits ^ bits) + added)  # type: ignore[type-var]
        return made

    def __init__(self, address: Any) -> None:
        me: Any = self
        value, length = _parts(address, self._plain)
        mask, bits, _ = type(self)._mask(length)
        me.network_address, me.netmask, me._prefixlen = self._single(value & bits), mask, length

    #: As the properties that `ipaddress` has, which call functions.
    prefixlen = _PREFIXLEN
    __hash__ = int.__hash__
    __eq__ = int.__eq__
    __ne__ = int.__ne__
    __format__ = object.__format__

    def __repr__(self) -> str:
        return f"{self._plain.__name__}({str(self)!r})"


class Network4(_Numbered, IPv4Network, int):  # type: ignore[misc]
    """Of IPv4."""

    version = 4
    max_prefixlen = 32
    _plain, _single, _mask = IPv4Network, IPv4Address, staticmethod(mask4)


class Network6(_Numbered, IPv6Network, int):  # type: ignore[misc]
    """Of IPv6."""

    version = 6
    max_prefixlen = 128
    _plain, _single, _mask = IPv6Network, IPv6Address, staticmethod(mask6)
