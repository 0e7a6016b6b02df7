"""What a seed says: the shape of a world, and what happens in it and when. Both are plain values whose repr
can be pasted into a test."""

from __future__ import annotations

from dataclasses import dataclass

Argument = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Step:
    """`what` happens, `at` seconds after the world has settled. Without it the others still make sense."""

    at: float
    what: str
    args: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """`racks` of `nodes` each behind `tors` routers, all of which meet at `spines` (none: one rack alone).

    `hold` and `graceful` in seconds; `lag`: the longest that an agent hears of a change later than another.
    """

    racks: int = 1
    tors: int = 1
    spines: int = 0
    nodes: int = 1
    mesh: bool = True
    reflectors: bool = False
    bfd: bool = False
    hold: int = 9
    graceful: int = 120
    services: int = 2
    pods: int = 2
    policies: bool = False
    lag: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the nodes."""
        return tuple(f"n{number + 1}" for number in range(self.racks * self.nodes))


@dataclass(frozen=True, slots=True)
class Case:
    """`seed` spreads what the steps leave open. `quiet`: seconds at the end in which nothing happens."""

    seed: int
    shape: Shape
    steps: tuple[Step, ...]
    quiet: float = 400.0


@dataclass(frozen=True, slots=True)
class Broken:
    """A law that did not hold, when (seconds), and how."""

    law: str
    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:.3f} s: {self.law}: {self.what}"


def pasted(case: Case) -> str:
    """The case as Python, one step a line."""
    lines = "".join(f"            {step!r},\n" for step in case.steps)
    shape = ", ".join(
        f"{name}={getattr(case.shape, name)!r}"
        for name in Shape.__dataclass_fields__
        if getattr(case.shape, name) != Shape.__dataclass_fields__[name].default
    )
    return (
        f"    Case(\n        seed={case.seed},\n        shape=Shape({shape}),\n"
        f"        steps=(\n{lines}        ),\n    ),\n"
    )
