"""Many small numbers side by side in one Python integer, so that one operation is done for all of them.

A lane is 32 bits, the lowest first, of which the highest is free for what comparing carries (Warren,
"Hacker's Delight", chapter 2). All here is some microseconds for thousands of lanes, and needs no library.
"""

from __future__ import annotations

import functools
import sys
from array import array
from dataclasses import dataclass
from typing import Final

#: Bits of a lane that hold a number.
BITS: Final = 31
_OCTETS: Final = 4


@dataclass(frozen=True, slots=True)
class Lanes:
    """So many of them; a set of lanes is a number whose lanes are all ones or 0."""

    count: int
    ones: int  # 1 in each
    _free: int  # the highest bit of each

    def each(self, number: int) -> int:
        """The same number in all."""
        return self.ones * number

    def read(self, octets: bytes) -> int:
        """Four octets a lane; what is too large is the caller's to mask."""
        return int.from_bytes(octets, "little")

    def listed(self, numbers: int) -> array[int]:
        found = array("I", numbers.to_bytes(_OCTETS * self.count, "little"))
        if sys.byteorder == "big":
            found.byteswap()
        return found

    def at_least(self, one: int, other: int) -> int:
        """Where one is not the smaller."""
        return self._whole(((one | self._free) - other) & self._free)

    def differing(self, one: int, other: int) -> int:
        """Where they are not the same."""
        return self._whole((((one ^ other) | self._free) - self.ones) & self._free)

    def larger(self, one: int, other: int) -> int:
        """The larger of both in each."""
        return other ^ ((one ^ other) & self.at_least(one, other))

    def _whole(self, carried: int) -> int:
        return carried - (carried >> BITS)


@functools.lru_cache(maxsize=32)
def lanes(count: int) -> Lanes:
    ones = int.from_bytes((b"\1" + bytes(_OCTETS - 1)) * count, "little")
    return Lanes(count, ones, ones << BITS)


@functools.lru_cache(maxsize=32)
def counted(count: int) -> int:
    """0, 1, 2 and so on, one a lane."""
    numbers = array("I", range(count))
    if sys.byteorder == "big":
        numbers.byteswap()
    return int.from_bytes(numbers.tobytes(), "little")
