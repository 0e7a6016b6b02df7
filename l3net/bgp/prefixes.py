"""Prefixes of learned routes: the networks of `ipaddress`, made and hashed fast.

A path passes some ten tables on its way to the kernel, and `ipaddress` works a network's hash out anew each
time, which was a third of what a route cost. These are equal to, and hash as, the plain ones.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network

from l3net.model import Prefix


class _Network4(IPv4Network):
    def __init__(self, address: tuple[bytes, int]) -> None:
        super().__init__(address, False)
        self._known_hash = _settled(self)

    def __hash__(self) -> int:
        return self._known_hash


class _Network6(IPv6Network):
    def __init__(self, address: tuple[bytes, int]) -> None:
        super().__init__(address, False)
        self._known_hash = _settled(self)

    def __hash__(self) -> int:
        return self._known_hash


def _settled(network: Prefix) -> int:
    """The hash `ipaddress` gives a network; one of two addresses or one is rid of a function of its own."""
    if network.prefixlen >= network.max_prefixlen - 1:
        network.__dict__.pop("hosts", None)  # a third of its memory
    return hash(int(network.network_address) ^ int(network.netmask))


def parse_prefix(text: str) -> Prefix:
    """`10.0.0.0/8`, `fd00::/8`, or an address. Raises ValueError.

    Bits beyond the length are irrelevant on the wire (RFC 4271 section 4.3), and ExaBGP keeps them.
    """
    address, slash, length = text.partition("/")
    if ":" in address:
        return _Network6((IPv6Address(address).packed, int(length) if slash else 128))
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is no IPv4 prefix")
    return _Network4((octets, int(length) if slash else 32))
