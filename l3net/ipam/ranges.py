"""Ranges of addresses: what of a block a pod may get.

The network address, the broadcast address (IPv4; in IPv6 the last address is left out too, so that both
families of a dual-stack block hold the same number) and the gateway are never assigned. RFC 4291 section
2.6.1 makes an IPv6 prefix's first address the subnet-router anycast address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from l3net.model import Address, Prefix

#: Addresses that may be reserved in one range.
MOST_RESERVED: Final = 16_384


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from `start` to `end`, both inclusive, less `reserved`."""

    subnet: Prefix
    start: Address
    end: Address
    gateway: Address | None
    reserved: frozenset[Address] = frozenset()
    prefix_length: int = 0  # what an assigned address carries
    #: Names the range in the store: the same addresses, the same key. Kept, for it is asked for often.
    key: str = field(init=False, compare=False, repr=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.start}-{self.end}/{hash_of(self.reserved)}")

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address) or address.version != self.subnet.version:
            return False
        return int(self.start) <= int(address) <= int(self.end) and address not in self.reserved

    @property
    def size(self) -> int:
        """Number of addresses that can be assigned."""
        inside = sum(1 for address in self.reserved if int(self.start) <= int(address) <= int(self.end))
        return int(self.end) - int(self.start) + 1 - inside


@dataclass(frozen=True, slots=True)
class RangeSet:
    """Ranges of one family, filled in order; an attachment gets one address out of the set."""

    ranges: tuple[Range, ...]

    @property
    def version(self) -> int:
        return self.ranges[0].subnet.version

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.ranges)

    def holding(self, address: Address) -> Range | None:
        return next((entry for entry in self.ranges if address in entry), None)

    def __str__(self) -> str:
        return ", ".join(str(entry.subnet) for entry in self.ranges)


def hash_of(reserved: Iterable[Address]) -> str:
    """A short stable digest of a set of addresses (FNV-1a, 32 bits)."""
    value = 0x811C9DC5
    for address in sorted(reserved, key=int):
        for byte in address.packed:
            value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{value:08x}"


def _address(subnet: Prefix, value: int) -> Address:
    return IPv4Address(value) if subnet.version == 4 else IPv6Address(value)


def bounds(subnet: Prefix) -> tuple[Address, Address]:
    """The first and last address of a subnet that may be assigned."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if last - first >= 2:
        first, last = first + 1, last - 1
    return _address(subnet, first), _address(subnet, last)


def first_address(subnet: Prefix) -> Address:
    """The gateway of a block: its first usable address."""
    return bounds(subnet)[0]


def block_range(
    block: Prefix, reserved: Iterable[Address | Prefix] = (), prefix_length: int | None = None
) -> Range:
    """The range of a node's block: its first address is the gateway, and pods carry a full-length prefix."""
    start, end = bounds(block)
    gateway = start
    return Range(
        subnet=block,
        start=start,
        end=end,
        gateway=gateway,
        reserved=frozenset({gateway, *expand(reserved, block)}),
        prefix_length=block.max_prefixlen if prefix_length is None else prefix_length,
    )


def expand(reserved: Iterable[Address | Prefix], within: Prefix) -> Iterator[Address]:
    """Reserved addresses and small prefixes as single addresses, those inside `within`.

    Raises ValueError when they are more than MOST_RESERVED: each costs memory and time with every call.
    """
    left = MOST_RESERVED
    for entry in reserved:
        prefix = ip_network(entry)
        if prefix.version != within.version or not prefix.overlaps(within):
            continue
        first = max(int(prefix.network_address), int(within.network_address))
        last = min(int(prefix.broadcast_address), int(within.broadcast_address))
        left -= last - first + 1
        if left < 0:
            raise ValueError(
                f"more than {MOST_RESERVED} addresses of {within} are reserved, with {prefix}; "
                "leave them out by rangeStart and rangeEnd, or by several ranges"
            )
        for value in range(first, last + 1):
            yield _address(within, value)


def block_sets(blocks: Iterable[Prefix], reserved: Iterable[Address | Prefix] = ()) -> tuple[RangeSet, ...]:
    """A node's blocks as one set a family (IPv4 first): the second block is used when the first is full."""
    return _block_sets(tuple(blocks), tuple(reserved))


@lru_cache(maxsize=64)
def _block_sets(blocks: tuple[Prefix, ...], kept: tuple[Address | Prefix, ...]) -> tuple[RangeSet, ...]:
    by_version: dict[int, list[Range]] = {}
    for block in blocks:
        by_version.setdefault(block.version, []).append(block_range(block, kept))
    return tuple(RangeSet(tuple(by_version[version])) for version in sorted(by_version))
