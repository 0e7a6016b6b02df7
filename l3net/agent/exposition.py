"""The text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from l3net.agent.histogram import BUCKETS, Histogram

Labels: TypeAlias = Mapping[str, object]
Sample: TypeAlias = tuple[Labels, float]


def gauge(name: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _metric(name, about, "gauge", samples)


def counter(name: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _metric(name, about, "counter", samples)


def histogram(name: str, about: str, found: Histogram) -> Iterator[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} histogram\n"
    for bound, count in zip(BUCKETS, found.counts, strict=True):
        yield f'{name}_bucket{{le="{bound}"}} {count}\n'
    yield f'{name}_bucket{{le="+Inf"}} {found.count}\n'
    yield f"{name}_sum {found.sum:.9g}\n{name}_count {found.count}\n"


def _metric(name: str, about: str, kind: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        named = ",".join(f'{key}="{_escaped(str(found))}"' for key, found in labels.items())
        yield f"{name}{{{named}}} {_number(value)}\n" if named else f"{name} {_number(value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.9g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
