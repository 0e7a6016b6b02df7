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
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from l3net.firewall.lanes import BITS, Lanes, counted, lanes
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
#: Bits of a lane for who it is; endpoints of one service beyond so many get nothing.
ROOM: Final = 15
LARGEST: Final = (1 << ROOM) - 1
#: A lane of ones.
ALL: Final = (1 << BITS) - 1
ROUNDS: Final = 6

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


@functools.lru_cache(maxsize=16)
def places(spread: Spread, slots: int, me: str, reached: frozenset[str]) -> Places:
    """`reached`: the nodes that this one can hand packets to. Those with endpoints are asked in the order of
    their highest numbers, after the owner."""
    row, ready = lanes(slots), spread.ready[:LARGEST]
    every = sorted((*ready, *spread.others[: LARGEST - len(ready)]))
    nodes = tuple(sorted({placed.node for placed in every if placed.node == me or placed.node in reached}))
    # Of equal numbers the smaller endpoint's, whoever else there is.
    drawn = {
        placed: _numbers(placed.backend, slots) | row.each(LARGEST - at) for at, placed in enumerate(every)
    }
    best = functools.reduce(row.larger, (drawn[placed] for placed in ready))
    at_ready = {placed: at for at, placed in enumerate(ready)}
    which = [at_ready.get(placed, 0) for placed in every]
    last = row.each(LARGEST)
    owners = array("H", map(which.__getitem__, row.listed(last - (best & last))))
    if me not in nodes or len(nodes) == 1:
        return Places(owners, array("h", [-1]) * slots, nodes, ranked=me in nodes)
    by_node: dict[str, list[Placed]] = {}
    for placed in every:
        by_node.setdefault(placed.node, []).append(placed)
    its_ready = {node: [drawn[each] for each in by_node[node] if each in at_ready] for node in nodes}
    asked = _asked(
        row,
        {node: functools.reduce(row.larger, (drawn[each] for each in by_node[node])) for node in nodes},
        # Where a node is not the owner.
        {
            node: row.differing(best, functools.reduce(row.larger, found)) if found else row.each(ALL)
            for node, found in its_ready.items()
        },
        me,
    )
    number = {node: at for at, node in enumerate(nodes)}
    following = [number.get(placed.node, -1) for placed in every]
    following.extend([-1] * (LARGEST - len(every) + 1))  # of lanes with nobody, which hold 0
    nexts = array("h", map(following.__getitem__, row.listed(last - (asked & last))))
    reachable = [placed.node in number for placed in ready]
    if not all(reachable):  # nobody's to hand on: each node answers
        nexts = array("h", (each if reachable[at] else -1 for at, each in zip(owners, nexts, strict=True)))
    return Places(owners, nexts, nodes, ranked=True)


def _asked(row: Lanes, highest: Mapping[str, int], elsewhere: Mapping[str, int], me: str) -> int:
    """The highest number of whoever comes after this node in each lane; 0 where nobody does."""
    mine, owned = highest[me], row.each(ALL) ^ elsewhere[me]
    found, before = 0, 0
    for node, numbers in highest.items():
        if node == me:
            continue
        # After the owner come all others, after another those below it but for the owner.
        above = row.at_least(numbers, mine) & elsewhere[node]
        before += above & row.ones
        found = row.larger(found, numbers & elsewhere[node] & ~(above & ~owned))
    # The owner and this node are asked before, too.
    few = row.at_least(row.each(ASKED - 3), before)
    return found & (few | owned)


@functools.lru_cache(maxsize=128)
def _numbers(backend: Backend, slots: int) -> int:
    """What an endpoint draws for each slot, in lanes, above room for who it is.

    It has each rank once, so that no endpoint draws higher than others do: half the variance for the same
    slots. Slots are mixed as a hash function does it, by steps that can be undone (multiplied by odd numbers,
    bits folded). In small tables, where ranks are equal often, bits beside decide.
    """
    row, bits = lanes(slots), slots.bit_length() - 1
    drawn = hashlib.shake_128(f"{backend.address} {backend.port}".encode())
    keys = struct.unpack(f"<{2 * ROUNDS}H", drawn.digest(4 * ROUNDS))
    whole, fold = row.each(slots - 1), (bits + 1) // 2
    folded = row.each((slots - 1) >> fold)
    numbers = counted(slots)
    for added, factor in zip(keys[::2], keys[1::2], strict=True):
        numbers ^= row.each(added & (slots - 1))
        numbers = (numbers * (factor >> 1 | 1)) & whole
        numbers ^= (numbers >> fold) & folded
    beside = BITS - ROOM - bits
    if beside > 0:
        extra = row.read(drawn.digest(4 * (slots + ROUNDS))[4 * ROUNDS :])
        numbers = numbers << beside | extra & row.each((1 << beside) - 1)
    return numbers << ROOM
