"""Prefixes of learned routes: the networks of `ipaddress`, made and hashed fast.

A path passes some ten tables on its way to the kernel, and `ipaddress` works a network's hash out anew each
time, which was a third of what a route cost. These are equal to, and hash as, the plain ones.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network

from l3net.model import Prefix


class _Network4(IPv4Network):
    def __init__(self, address: object, strict: bool = True) -> None:
        super().__init__(address, strict)
        if self.prefixlen >= 31:
            with suppress(AttributeError):
                del self.hosts  # a function that each of these brings along, a third of its memory
        self._known_hash = super().__hash__()

    def __hash__(self) -> int:
        return self._known_hash


class _Network6(IPv6Network):
    def __init__(self, address: object, strict: bool = True) -> None:
        super().__init__(address, strict)
        if self.prefixlen >= 127:
            with suppress(AttributeError):
                del self.hosts  # a function that each of these brings along, a third of its memory
        self._known_hash = super().__hash__()

    def __hash__(self) -> int:
        return self._known_hash


def parse_prefix(text: str) -> Prefix:
    """`10.0.0.0/8`, `fd00::/8`, or an address. Raises ValueError.

    Bits beyond the length are irrelevant on the wire (RFC 4271 section 4.3), and ExaBGP keeps them.
    """
    address, slash, length = text.partition("/")
    if ":" in address:
        return _Network6(text, strict=False)
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is no IPv4 prefix")
    return _Network4((octets, int(length) if slash else 32), strict=False)
