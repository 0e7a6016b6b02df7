"""How long a reflector waits: between attempts that fail, and before it lists everything anew."""

from __future__ import annotations

from random import Random
from typing import Final

#: Refusals to watch from a version, in a row, after which it is listed again (a restored etcd is behind us).
REFUSALS: Final = 5
#: Lists because versions went back are spread over this many times the first wait.
SPREAD: Final = 4.0


class Pacing:
    """Waits that grow until a watch has lived for a while. `first` and `longest` in seconds; `random`
    spreads them."""

    def __init__(self, first: float, longest: float, random: Random) -> None:
        self._first, self.longest, self._random = first, longest, random
        self.failures = 0  # since a watch lived for a while
        self._refusals = 0  # in a row
        self._doubts = 0  # lists because of versions that went back, since a watch lived for a while

    def delay(self) -> float:
        """The next wait, in seconds: doubled each time."""
        wait: float = min(self.longest, self._first * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return wait * self._random.uniform(0.5, 1.0)

    def spread(self) -> float:
        """Seconds until everything is listed because versions went back: not all agents at once, and more and
        more of them where that does not help."""
        first = SPREAD * self._first
        most = max(first, min(self.longest, first * 2.0 ** min(self._doubts, 16)))
        self._doubts += 1
        return self._random.uniform(0.0, most)

    def refused(self) -> bool:
        """The server has refused; whether so often in a row that the version itself may be why."""
        self._refusals += 1
        return self._refusals >= REFUSALS

    def answered(self) -> None:
        self._refusals = 0

    def lived(self) -> None:
        """A watch did, for a while."""
        self.failures = self._doubts = 0
