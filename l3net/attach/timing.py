"""How long the phases of an ADD take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from l3net.metering.histogram import FINE, Histogram

#: All of one ADD, reading its configuration, and its addresses; the parts follow by their names.
ALL: Final = "all"
CONFIGURATION: Final = "configuration"
ADDRESSES: Final = "addresses"


class Timings:
    """`clock` gives monotonic seconds. Only what goes well is timed. Thread-safe."""

    def __init__(self, clock: Callable[[], float], parts: Iterable[str]) -> None:
        self._clock = clock
        self._found = {name: Histogram(FINE) for name in (ALL, CONFIGURATION, ADDRESSES, *parts)}

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """What is done inside is this phase."""
        began = self._clock()
        yield
        self._found[phase].observe(self._clock() - began)

    def found(self) -> Mapping[str, Histogram]:
        """By phase, all of them from the beginning."""
        return self._found


def phase_of(part: type) -> str:
    """The name of a part's phase."""
    return part.__name__.lower()
