"""Spans of addresses of one family that are in use, and the search for the first that are not."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import overload

from l3net.model import Address, Prefix


def span(prefix: Prefix) -> tuple[int, int]:
    """First and last address, both inclusive, as integers."""
    return int(prefix.network_address), int(prefix.broadcast_address)


class Spans:
    """Disjoint prefixes of both families, each with its owner. Looking one up costs O(log n)."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._held: dict[int, list[tuple[int, Prefix, str]]] = {4: [], 6: []}

    def add(self, prefix: Prefix, owner: str) -> tuple[Prefix, str] | None:
        """Take a prefix; if something overlaps it, take nothing and answer with that."""
        if (found := self.overlapping(prefix)) is not None:
            return found
        first, last = span(prefix)
        index = bisect_left(self._starts[prefix.version], first)
        self._starts[prefix.version].insert(index, first)
        self._held[prefix.version].insert(index, (last, prefix, owner))
        return None

    def remove(self, prefix: Prefix) -> None:
        first, _ = span(prefix)
        index = bisect_left(self._starts[prefix.version], first)
        if index < len(self._starts[prefix.version]) and self._held[prefix.version][index][1] == prefix:
            del self._starts[prefix.version][index]
            del self._held[prefix.version][index]

    def overlapping(self, prefix: Prefix) -> tuple[Prefix, str] | None:
        """A prefix in use that overlaps this one, and its owner."""
        first, last = span(prefix)
        # Held spans are disjoint, so only the last that begins at or before our end can reach into ours.
        index = bisect_right(self._starts[prefix.version], last) - 1
        if index < 0:
            return None
        end, held, owner = self._held[prefix.version][index]
        return (held, owner) if end >= first else None

    def inside(self, prefix: Prefix) -> Iterable[Prefix]:
        """Those in use that lie within a prefix."""
        first, last = span(prefix)
        starts = self._starts[prefix.version]
        for index in range(bisect_left(starts, first), bisect_right(starts, last)):
            held = self._held[prefix.version][index][1]
            if held.prefixlen >= prefix.prefixlen:
                yield held


class Search:
    """The free prefixes of one length within a pool, lowest first; without those of which `avoid` is true of
    the first address. It never looks back."""

    def __init__(self, pool: Prefix, length: int, avoid: Callable[[Address], bool] | None = None) -> None:
        self._pool, self._length, self._avoid = pool, length, avoid
        self._size = 1 << (pool.max_prefixlen - length)
        self._next, self._last = span(pool)

    def next_free(self, *taken: Spans) -> Prefix | None:
        """The first that overlaps nothing taken; None when the pool is full."""
        while self._next + self._size - 1 <= self._last:
            candidate = prefix_at(self._pool, self._next, self._length)
            found = next((hit for spans in taken if (hit := spans.overlapping(candidate))), None)
            if found is None:
                if self._avoid is None or not self._avoid(address_of(candidate)):
                    return candidate
                self._next += self._size
                continue
            end = span(found[0])[1]
            self._next = max(self._next + self._size, -(-(end + 1) // self._size) * self._size)
        return None


@overload
def prefix_at(like: IPv4Network, value: int, length: int) -> IPv4Network: ...
@overload
def prefix_at(like: IPv6Network, value: int, length: int) -> IPv6Network: ...
@overload
def prefix_at(like: Prefix, value: int, length: int) -> Prefix: ...
def prefix_at(like: Prefix, value: int, length: int) -> Prefix:
    """The prefix of this length that starts at an address given as an integer, in the family of `like`."""
    if like.version == 4:
        return IPv4Network((value, length))
    return IPv6Network((value, length))


def address_of(prefix: Prefix) -> Address:
    """The first address of a prefix."""
    found: IPv4Address | IPv6Address = prefix.network_address
    return found
