"""Addresses and prefixes: out of text, as everything declared or asked for writes them; and among themselves,
which lies in which, which comes first.

Python's `ipaddress` takes a zone (RFC 4007 section 11: `fe80::1%eth0`), which may be any text whatever. No
object of Kubernetes, CNI or ours may hold one: it means something on one host alone, and would travel on into
statuses, routes and rule sets.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, cast

from l3net.model import Address, Prefix
from l3net.numbered import Network4, Network6, mask4, mask6

#: Texts of which the address is remembered: what is declared names one several times, and again with each
#: change of its object.
_REMEMBERED: Final = 8192
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"


@cache
def _dotted() -> re.Pattern[str]:
    """An IPv4 address as `ipaddress` takes it, told in a tenth of the time. Compiled when it is first used:
    the plugin does without."""
    return re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}")


class _Address4(IPv4Address):
    """Equal to a plain one, hashes as that does and is written as that is. `ipaddress` works a hash out anew,
    by way of text, each time that a table is looked into, and the text each time that it is asked for: a
    fifth of what a first sync of services costs."""

    __slots__ = ("_known_hash", "_known_text")

    def __init__(self, address: object) -> None:
        super().__init__(address)
        self._known_hash = super().__hash__()
        self._known_text = ""

    def __hash__(self) -> int:
        return self._known_hash

    def __str__(self) -> str:
        if not self._known_text:
            self._known_text = super().__str__()
        return self._known_text

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else str(self)

    def __repr__(self) -> str:
        return f"IPv4Address({str(self)!r})"


class _Address6(IPv6Address):
    """As _Address4."""

    __slots__ = ("_known_hash", "_known_text")

    def __init__(self, address: object) -> None:
        super().__init__(address)
        self._known_hash = super().__hash__()
        self._known_text = ""

    def __hash__(self) -> int:
        return self._known_hash

    def __str__(self) -> str:
        if not self._known_text:
            self._known_text = super().__str__()
        return self._known_text

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else str(self)

    def __repr__(self) -> str:
        return f"IPv6Address({str(self)!r})"


class _Host4(Network4):
    """A network of one address, which it shares."""

    def hosts(self) -> Iterator[IPv4Address]:
        """As of a plain one."""
        return iter(IPv4Network(str(self)).hosts())


class _Host6(Network6):
    """As _Host4."""

    def hosts(self) -> Iterator[IPv6Address]:
        """As of a plain one."""
        return iter(IPv6Network(str(self)).hosts())


#: Of a network of one address: see `mask4`.
_ALL4, _ONES4, _ADDED4 = mask4(32)
_ALL6, _ONES6, _ADDED6 = mask6(128)


@lru_cache(_REMEMBERED)
def parse_address(text: str) -> Address:
    """Raises ValueError for what is no address, or has a zone."""
    if _dotted().fullmatch(text):
        made: Any = _Address4.__new__(_Address4)  # its `__init__` looks at much that is known here
        made._ip = number = int.from_bytes(bytes(map(int, text.split("."))))
        made._known_hash, made._known_text = hash(hex(number)), text
        return cast(Address, made)
    _without_zone(text)
    if ":" in text:
        with suppress(ValueError):  # what it is not, `ipaddress` says below
            return _Address6(text)
    found = ipaddress.ip_address(text)
    return _Address4(int(found)) if isinstance(found, IPv4Address) else _Address6(int(found))


def parse_prefix(text: str, *, strict: bool = False) -> Prefix:
    """Raises ValueError for what is no prefix, or has a zone; with `strict` for host bits too."""
    _without_zone(text)
    return ipaddress.ip_network(text, strict=strict)


def parse_interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address with a prefix length. Raises ValueError."""
    _without_zone(text)
    return ipaddress.ip_interface(text)


def host_prefix(address: Address) -> Prefix:
    """An address as a prefix of full length."""
    made: Any
    one: Any = address
    if isinstance(address, IPv4Address):
        if type(one) is not _Address4:
            one = _Address4(int(address))
        made = int.__new__(_Host4, (one._ip ^ _ONES4) + _ADDED4)
        made.network_address, made.netmask, made._prefixlen = one, _ALL4, 32
    else:
        if type(one) is not _Address6:
            one = _Address6(int(address))
        made = int.__new__(_Host6, (one._ip ^ _ONES6) + _ADDED6)
        made.network_address, made.netmask, made._prefixlen = one, _ALL6, 128
    return cast(Prefix, made)


def parse_host_or_prefix(text: str, *, strict: bool = False) -> Prefix:
    """A prefix, or an address as one of full length. Raises ValueError as `parse_prefix` does."""
    return parse_prefix(text, strict=strict) if "/" in text else host_prefix(parse_address(text))


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Whether `inner` equals `outer` or lies inside it; False across families."""
    # In integers: every learned path is held against every range, and `in` costs three times this.
    length = outer.prefixlen
    if length > inner.prefixlen or outer.version != inner.version:
        return False
    shift = outer.max_prefixlen - length
    return int(inner.network_address) >> shift == int(outer.network_address) >> shift


def prefix_order(prefix: Prefix) -> tuple[int, int, int]:
    """IPv4 before IPv6, then by address and length."""
    version = 4 if isinstance(prefix, IPv4Network) else 6
    return version, int(prefix.network_address), prefix.prefixlen


def address_order(address: Address) -> tuple[int, int]:
    """IPv4 before IPv6, then by number."""
    return 4 if isinstance(address, IPv4Address) else 6, int(address)


def _without_zone(text: str) -> None:
    if "%" in text:
        raise ValueError(f"{text[:60]!a} must not have a zone (%...)")
