"""How long the phases of an ADD take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final

from l3net.metering.histogram import FINE, Histogram

#: All of one ADD, reading its configuration, and its addresses; the parts follow by their names.
ALL: Final = "all"
CONFIGURATION: Final = "configuration"
ADDRESSES: Final = "addresses"


class Timed:
    """One phase: a context manager, which costs a third of a generator's. An ADD has eight of them."""

    __slots__ = ("_began", "_clock", "_found")

    def __init__(self, clock: Callable[[], float], found: Histogram) -> None:
        self._clock = clock
        self._found = found

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._found.observe(self._clock() - self._began)


class Timings:
    """`clock` gives monotonic seconds. Only what goes well is timed. Thread-safe."""

    def __init__(self, clock: Callable[[], float], parts: Iterable[str]) -> None:
        self._clock = clock
        self._found = {name: Histogram(FINE) for name in (ALL, CONFIGURATION, ADDRESSES, *parts)}

    def timed(self, phase: str) -> Timed:
        """What is done inside is this phase."""
        return Timed(self._clock, self._found[phase])

    def found(self) -> Mapping[str, Histogram]:
        """By phase, all of them from the beginning."""
        return self._found


def phase_of(part: type) -> str:
    """The name of a part's phase."""
    return part.__name__.lower()
