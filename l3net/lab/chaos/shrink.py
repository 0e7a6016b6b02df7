"""A failing schedule made smaller: halves, quarters and so on are left out as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable

from l3net.lab.chaos.draw import TAIL
from l3net.lab.chaos.step import Schedule, Step


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """The smallest schedule found that still fails, which `fails` tells by running it.

    Delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002): at worst as
    many runs as the square of the number of steps, most often a few times its logarithm.
    """
    steps, pieces = schedule.steps, 2
    while len(steps) > 1:
        size = max(1, len(steps) // pieces)
        for start in range(0, len(steps), size):
            kept = steps[:start] + steps[start + size :]
            if kept and fails(shorter(schedule, kept)):
                steps, pieces = kept, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(steps), pieces * 2)
    return shorter(schedule, steps)


def shorter(schedule: Schedule, steps: tuple[Step, ...]) -> Schedule:
    """The schedule with those steps alone, at their times, ended when the last of them is over."""
    last = max((step.until for step in steps), default=0.0)
    kept = schedule.only(steps)
    return Schedule(kept.seed, min(schedule.seconds, round(last + TAIL, 1)), steps, kept.topology)
