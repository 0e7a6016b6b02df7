"""Addresses and prefixes: out of text, as everything declared or asked for writes them; and among themselves,
which lies in which, which comes first.

Python's `ipaddress` takes a zone (RFC 4007 section 11: `fe80::1%eth0`), which may be any text whatever. No
object of Kubernetes, CNI or ours may hold one: it means something on one host alone, and would travel on into
statuses, routes and rule sets.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from l3net.model import Address, Prefix


def parse_address(text: str) -> Address:
    """Raises ValueError for what is no address, or has a zone."""
    _without_zone(text)
    return ipaddress.ip_address(text)


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
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


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
