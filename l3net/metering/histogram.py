"""How long things took, in buckets."""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Final

#: Upper bounds in seconds: of what takes some time, and of what is done at once.
BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
FINE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 5.0)


class Histogram:
    """Counts of what was observed, in seconds. `bounds` ascend. Thread-safe."""

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds = bounds
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)  # of each bucket alone, the last beyond all bounds
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        with self._lock:
            self._counts[bisect_left(self.bounds, seconds)] += 1
            self.sum += seconds

    @property
    def counts(self) -> list[int]:
        """How many took no longer than each of the bounds."""
        return list(accumulate(self._counts[:-1]))

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)
