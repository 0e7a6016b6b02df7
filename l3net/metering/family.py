"""A family of samples: its name, its kind, its labels and what it means.

The names are as Prometheus asks (prometheus.io/docs/practices/naming): base units, the unit last, `_total` on
what only grows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from l3net.metering.histogram import Histogram

T = TypeVar("T")

#: The values of the labels, in the family's order, and what was measured with them.
Sample: TypeAlias = tuple[tuple[object, ...], float | Histogram]


class MetricKind(enum.Enum):
    """As the text format names it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """`about` is a sentence; `formerly` the name of older releases, under which it is exported too for one
    release more."""

    name: str
    kind: MetricKind
    about: str
    labels: tuple[str, ...] = ()
    formerly: str = ""


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A family and how its samples are read of what is looked at."""

    family: Family
    read: Callable[[T], Iterable[Sample]]


def gauge(
    name: str, about: str, read: Callable[[T], Iterable[Sample]], *labels: str, formerly: str = ""
) -> Row[T]:
    """What goes up and down."""
    return Row(Family(name, MetricKind.GAUGE, about, labels, formerly), read)


def counter(
    name: str, about: str, read: Callable[[T], Iterable[Sample]], *labels: str, formerly: str = ""
) -> Row[T]:
    """What only grows while the process runs."""
    return Row(Family(name, MetricKind.COUNTER, about, labels, formerly), read)


def histogram(
    name: str, about: str, read: Callable[[T], Iterable[Sample]], *labels: str, formerly: str = ""
) -> Row[T]:
    """How long things took."""
    return Row(Family(name, MetricKind.HISTOGRAM, about, labels, formerly), read)


def one(read: Callable[[T], float | Histogram]) -> Callable[[T], Iterable[Sample]]:
    """Of a family without labels: its only sample."""
    return lambda seen: (((), read(seen)),)
