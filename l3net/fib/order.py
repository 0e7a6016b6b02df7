"""The order in which routes change, so that each address is led as before or as after, and never another way.

All puts precede all deletes: while both an old and a new route lead to an address, it is led by one of them.
Among puts the more preferred come first, by prefix length and then by metric: an address that a new specific
route will lead is not led by what its cover becomes before. Among deletes the less preferred come first: an
address is led by the most specific of the routes that go until that goes too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from l3net.model import Prefix

RouteKey = tuple[Prefix, int]


def deletes_in_order(keys: Iterable[RouteKey]) -> Iterator[RouteKey]:
    """What is to be deleted, the less preferred first."""
    buckets = _by_preference(keys)
    return (key for rank in sorted(buckets, reverse=True) for key in buckets[rank])


def in_turn(
    prefixes: Iterable[Prefix], metric: int, keys: Iterable[RouteKey]
) -> Iterator[tuple[list[Prefix], list[RouteKey]]]:
    """What is to be put, by turns of one preference each, the more preferred first: prefixes whose routes
    have this metric, and other routes."""
    lengths: dict[int, list[Prefix]] = defaultdict(list)
    for prefix in prefixes:
        lengths[prefix.prefixlen].append(prefix)
    ours = {_rank(length, metric): some for length, some in lengths.items()}
    others = _by_preference(keys)
    return ((ours.get(rank, []), others.get(rank, [])) for rank in sorted(ours.keys() | others.keys()))


def _rank(length: int, metric: int) -> int:
    """What the kernel chooses by: the longest prefix, then the lowest metric (of 32 bits)."""
    return metric - (length << 32)


def _by_preference(keys: Iterable[RouteKey]) -> dict[int, list[RouteKey]]:
    """By rank. No sort: a table has 100,000 routes of few ranks."""
    buckets: dict[int, list[RouteKey]] = defaultdict(list)
    for key in keys:
        buckets[_rank(key[0].prefixlen, key[1])].append(key)
    return buckets
