"""How slow the machine is, for want of processors: what is promised is promised of nodes that can compute.

Whoever wants to run shares the processors with all who do: with R that want and P processors, what takes a
second alone takes R/P seconds. R is what /proc/loadavg tells (proc(5): kernel scheduling entities that are
runnable), which counts everybody, the lab's own processes too.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds between looks.
EVERY = 0.25
_LOADS = Path("/proc/loadavg")


def slowness() -> float:
    """How many times as long as alone everything takes at this moment, from 1."""
    running = int(_LOADS.read_text().split()[3].partition("/")[0])
    return max(1.0, (running - 1) / (os.cpu_count() or 1))  # not this one, which is about to sleep


def rest(seconds: float) -> None:
    """Sleep for so many undisturbed seconds."""
    while seconds > 0:
        time.sleep(min(EVERY, seconds))
        seconds -= EVERY / slowness()


@dataclass
class Busy:
    """The machine's slowness over a run, and how much undisturbed time has passed in it. Times are of the
    run; before the first look and after the last nobody is in the way."""

    _times: list[float] = field(default_factory=list)
    _passed: list[float] = field(default_factory=list)  # undisturbed seconds until each of the times
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, clock: Callable[[], float]) -> None:
        """Looks until `stop`."""
        self.note(clock(), 1.0)
        while not self._stop.wait(EVERY):
            self.note(clock(), slowness())

    def stop(self) -> None:
        self._stop.set()

    def note(self, now: float, slow: float) -> None:
        """Since the look before, everything took `slow` times as long."""
        last = self._times[-1] if self._times else now
        passed = self._passed[-1] if self._times else now
        self._passed.append(passed + (now - last) / slow)
        self._times.append(now)

    def elapsed(self, start: float, end: float) -> float:
        """Undisturbed seconds between two times."""
        return self._undisturbed(end) - self._undisturbed(start)

    def after(self, start: float, seconds: float) -> float:
        """The time by which so many undisturbed seconds have passed."""
        wanted = self._undisturbed(start) + seconds
        return _between(self._passed, self._times, wanted)

    def _undisturbed(self, at: float) -> float:
        return _between(self._times, self._passed, at)

    @property
    def mean(self) -> float:
        """How many times as long as alone everything took, over all looks."""
        if len(self._times) < 2:
            return 1.0
        return (self._times[-1] - self._times[0]) / (self._passed[-1] - self._passed[0])


def _between(known: list[float], values: list[float], at: float) -> float:
    """The value at a point between two known ones, and beyond them as if one were the other's clock."""
    count = min(len(known), len(values))  # another thread may be adding
    place = bisect_right(known, at, 0, count)
    if place == 0:
        return at + (values[0] - known[0] if count else 0.0)
    if place == count:
        return values[place - 1] + at - known[place - 1]
    share = (at - known[place - 1]) / (known[place] - known[place - 1])
    return values[place - 1] + share * (values[place] - values[place - 1])
