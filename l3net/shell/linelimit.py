"""A bound on lines of a log, so that what repeats itself neither fills the disk nor hides the rest."""

from __future__ import annotations

from typing import Final

#: Lines that pass at once, and then in a second.
LOG_BURST: Final = 100
LOG_RATE: Final = 2.0


class LineLimit:
    """A bound on log lines: a burst passes, then so many a second, and what was left out is counted."""

    def __init__(self) -> None:
        self._tokens = float(LOG_BURST)
        self._at = 0.0
        self._left_out = 0

    def take(self, now: float) -> tuple[bool, int]:
        """(whether a line at `now` passes, how many were left out before it, to be said once)."""
        self._tokens = min(LOG_BURST, self._tokens + (now - self._at) * LOG_RATE)
        self._at = now
        if self._tokens < 1:
            self._left_out += 1
            return False, 0
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        return True, left_out

    def rest(self) -> int:
        """How many were left out and are not told of yet; they are now."""
        left_out, self._left_out = self._left_out, 0
        return left_out
