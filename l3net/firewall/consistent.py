"""Which of a service's backends a client meets where the node remembers none: the same on every node.

A change of the backends moves no client but those that have to move (rendezvous hashing, Thaler and
Ravishankar, 1998).
"""

from __future__ import annotations

import functools
import hashlib
import struct

from l3net.model import Backend

#: Slots for so many backends; more get the next number. Each backend has about an equal share of the slots.
SIZES = ((64, 256), (1024, 4096), (2**31, 16384))


def size(backends: int) -> int:
    """How many slots there are for a number of backends."""
    return next(slots for most, slots in SIZES if backends <= most)


@functools.lru_cache(maxsize=1024)
def slots(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """The backend of each slot; `backends` in any order, at least one."""
    count = size(len(backends))
    scores = [_scores(backend, count) for backend in backends]
    ranked = range(len(backends))
    # Of equal scores, which are as good as never, the smaller backend.
    order = sorted(ranked, key=lambda number: backends[number], reverse=True)
    return tuple(backends[max(order, key=lambda number: scores[number][slot])] for slot in range(count))


@functools.lru_cache(maxsize=4096)
def _scores(backend: Backend, count: int) -> tuple[int, ...]:
    drawn = hashlib.shake_128(f"{backend.address} {backend.port}".encode()).digest(8 * count)
    return struct.unpack(f">{count}Q", drawn)
