"""A case that breaks a law, made small: fewer steps, then fewer machines, then simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from world.case import Case, Shape

Breaks = Callable[[Case], bool]


def shrink(case: Case, breaks: Breaks, most: int = 300) -> Case:
    """The smallest case found that still breaks, in at most `most` runs."""
    left = most
    changed = True
    while changed and left > 0:
        changed = False
        for smaller in _smaller(case):
            left -= 1
            if left < 0:
                break
            if breaks(smaller):
                case, changed = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    size = max(1, len(case.steps) // 2)
    while size:
        for begin in range(0, len(case.steps), size):
            yield replace(case, steps=case.steps[:begin] + case.steps[begin + size :])
        size //= 2
    for shape in _simpler(case.shape):
        yield replace(case, shape=shape)
    for number, step in enumerate(case.steps):
        for where, value in enumerate(step.args):
            if isinstance(value, int) and not isinstance(value, bool) and value >= len(case.shape.names):
                args = (*step.args[:where], value % len(case.shape.names), *step.args[where + 1 :])
                steps = (*case.steps[:number], replace(step, args=args), *case.steps[number + 1 :])
                yield replace(case, steps=steps)


def _simpler(shape: Shape) -> Iterator[Shape]:
    for name, least in (("racks", 1), ("nodes", 1), ("tors", 1), ("spines", 0), ("services", 1), ("pods", 1)):
        value = getattr(shape, name)
        if value > least and not (name == "spines" and shape.racks > 1 and value == 1):
            yield replace(shape, **{name: value - 1})
    for name, plain in (("bfd", False), ("reflectors", False), ("lag", 0.0), ("hold", 9), ("graceful", 120)):
        if getattr(shape, name) != plain:
            yield replace(shape, **{name: plain})
