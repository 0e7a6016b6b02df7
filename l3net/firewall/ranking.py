"""Which node answers for each slot of a service's table, and who is asked next for a connection that it does
not know: the same on every node, out of what is declared now.

Every endpoint draws a number for each slot, and the highest has it (rendezvous hashing, Thaler and
Ravishankar, 1998). So an endpoint that goes moves its own slots and no other; one that comes takes its share,
and who had a slot before is the next in order, without anybody remembering it. Turn-taking (Maglev, Eisenbud
et al., NSDI 2016, section 3.4) needs fewer slots for the same balance, and moves some slots of others.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from l3net.model import Backend, Placed, Spread

#: Slots for so many endpoints, of whom the fullest has at most 1.12 times the mean. Few sizes, for another
#: one draws all slots anew.
SIZES: Final = ((16, 4096), (48, 16384))
MOST: Final = 65536
LEAST: Final = 16
#: Slots of all tables of a node: nft takes a second for them at an agent's start, and 230 MiB meanwhile.
TOTAL: Final = 65536
#: So many nodes are asked for a connection.
ASKED: Final = 8

K = TypeVar("K")


def wanted_slots(endpoints: int) -> int:
    return next((slots for most, slots in SIZES if endpoints <= most), MOST)


def sizes(endpoints: Mapping[K, int]) -> dict[K, int]:
    """Slots of each table by its endpoints: as many as it wants, or the largest are halved until all are no
    more than `TOTAL`."""
    wanted = {key: wanted_slots(count) for key, count in endpoints.items()}
    most = MOST
    while most > LEAST and sum(min(most, slots) for slots in wanted.values()) > TOTAL:
        most //= 2
    return {key: min(most, slots) for key, slots in wanted.items()}


@dataclass(frozen=True, slots=True)
class Places:
    """Of each slot: who of `ready` has it, and which of `nodes` this one asks next (-1: none)."""

    owners: array[int]
    nexts: array[int]
    nodes: tuple[str, ...]
    ranked: bool  # whether this node is one of `nodes`


@functools.lru_cache(maxsize=128)
def places(spread: Spread, slots: int, me: str, reached: frozenset[str]) -> Places:
    """`reached`: the nodes that this one can hand packets to. Those with endpoints are asked in the order of
    their highest numbers, after the owner."""
    every = (*spread.ready, *spread.others)
    drawn = [_numbers(placed.backend, slots) for placed in every]
    nodes = tuple(sorted({placed.node for placed in every if placed.node == me or placed.node in reached}))
    highest = [_highest([drawn[at] for at in _of(every, node)]) for node in nodes]
    owners = array("H", _owners(drawn[: len(spread.ready)]))
    if me not in nodes or len(nodes) == 1:
        return Places(owners, array("h", [-1]) * slots, nodes, ranked=me in nodes)
    number = {node: at for at, node in enumerate(nodes)}
    where = [number.get(placed.node, -1) for placed in spread.ready]
    found = _nexts(number[me], [where[owner] for owner in owners], highest)
    return Places(owners, array("h", found), nodes, ranked=True)


def _nexts(my: int, owners: Collection[int], highest: Collection[array[int]]) -> Iterator[int]:
    for owner, column in zip(owners, zip(*highest, strict=True), strict=True):
        if owner < 0:  # nobody's to hand on: each node answers
            yield -1
            continue
        order = sorted(column, reverse=True)
        if owner == my:
            yield column.index(order[order[0] == column[my]])
            continue
        at = order.index(column[my]) + 1
        if at < len(order) and order[at] == column[owner]:
            at += 1
        asked = at + (column[owner] < column[my])
        yield column.index(order[at]) if at < len(order) and asked < ASKED else -1


def _of(every: Collection[Placed], node: str) -> Iterator[int]:
    return (at for at, placed in enumerate(every) if placed.node == node)


def _owners(drawn: list[array[int]]) -> Iterator[int]:
    """Of equal numbers, which are as good as never, the smaller endpoint's."""
    return (column.index(max(column)) for column in zip(*drawn, strict=True))


def _highest(drawn: list[array[int]]) -> array[int]:
    return drawn[0] if len(drawn) == 1 else array("I", map(max, *drawn))


@functools.lru_cache(maxsize=128)
def _numbers(backend: Backend, slots: int) -> array[int]:
    """What an endpoint draws for each slot: 32 bits.

    It has each rank once, so that no endpoint draws higher than others do: half the variance for the same
    slots. In the largest table that takes 30 ms, and is kept.
    """
    numbers = array("I")
    numbers.frombytes(hashlib.shake_128(f"{backend.address} {backend.port}".encode()).digest(4 * slots))
    if sys.byteorder == "little":
        numbers.byteswap()
    for rank, slot in enumerate(sorted(range(slots), key=numbers.__getitem__)):
        numbers[slot] = rank << 16 | numbers[slot] & 0xFFFF
    return numbers
