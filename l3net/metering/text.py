"""The text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from l3net.metering.family import Family, Row, Sample
from l3net.metering.histogram import Histogram

T = TypeVar("T")

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def exposition(rows: Iterable[Row[T]], seen: T, failed: Callable[[str, Exception], None]) -> str:
    """All rows, as one scrape. A row that cannot be read is left out, and `failed` hears of it."""
    parts: list[str] = []
    for row in rows:
        try:
            parts.append(written(row.family, list(row.read(seen))))
        except Exception as err:  # of one row: the others are told
            failed(row.family.name, err)
    return "".join(parts)


def written(family: Family, samples: Sequence[Sample]) -> str:
    """One family, and once more by its former name if it has one."""
    text = "".join(_lines(family.name, family.about, family, samples))
    if family.formerly:
        text += "".join(_lines(family.formerly, f"Former name of {family.name}.", family, samples))
    return text


def _lines(name: str, about: str, family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} {family.kind.value}\n"
    for values, value in samples:
        named = ",".join(
            [
                f'{label}="{str(found).translate(_ESCAPES)}"'
                for label, found in zip(family.labels, values, strict=True)
            ]
        )
        if isinstance(value, Histogram):
            yield from _buckets(name, named, value)
        else:
            yield f"{name}{{{named}}} {_number(value)}\n" if named else f"{name} {_number(value)}\n"


def _buckets(name: str, named: str, found: Histogram) -> Iterator[str]:
    before = f"{named}," if named else ""
    braced = f"{{{named}}}" if named else ""
    counts, total = found.counts, found.count
    for bound, count in zip(found.bounds, counts, strict=True):
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}\n'
    yield f'{name}_bucket{{{before}le="+Inf"}} {total}\n'
    yield f"{name}_sum{braced} {_number(found.sum)}\n{name}_count{braced} {total}\n"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
