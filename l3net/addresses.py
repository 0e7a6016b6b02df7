"""Addresses and prefixes out of text, as everything declared or asked for writes them.

Python's `ipaddress` takes a zone (RFC 4007 section 11: `fe80::1%eth0`), which may be any text whatever. No
object of Kubernetes, CNI or ours may hold one: it means something on one host alone, and would travel on into
statuses, routes and rule sets.
"""

from __future__ import annotations

import ipaddress

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


def _without_zone(text: str) -> None:
    if "%" in text:
        raise ValueError(f"{text[:60]!a} must not have a zone (%...)")
