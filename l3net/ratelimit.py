"""A bound on what repeats itself: lines of a log, Events. No clock: `now` is handed in, in seconds."""

from __future__ import annotations

from typing import Final

#: Of lines of a log: so many pass at once, and then so many in a second.
LOG_BURST: Final = 100
LOG_RATE: Final = 2.0


class RateLimit:
    """`burst` pass at once, then `rate` a second; what was left out is counted."""

    def __init__(self, burst: int = LOG_BURST, rate: float = LOG_RATE) -> None:
        self._burst, self._rate = burst, rate
        self._tokens = float(burst)
        self._at = 0.0
        self._left_out = 0

    def take(self, now: float) -> tuple[bool, int]:
        """(whether one at `now` passes, how many were left out before it, to be said once)."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            self._left_out += 1
            return False, 0
        self._tokens -= 1
        return True, self.rest()

    def rest(self) -> int:
        """How many were left out and are not told of yet; they are now."""
        left_out, self._left_out = self._left_out, 0
        return left_out
