"""The segments of an AS_PATH (RFC 4271 section 4.3, RFC 5065 section 3), which is kept flat beside them."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from l3net.bgp.path import Attributes


class Segment(enum.IntEnum):
    """Type of a segment, as it stands on the wire."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


#: A type, and the AS numbers.
Run: TypeAlias = tuple[Segment, tuple[int, ...]]

_BRACKETS = {Segment.AS_SET: "{}", Segment.AS_CONFED_SEQUENCE: "()", Segment.AS_CONFED_SET: "[]"}


def runs(attributes: Attributes) -> Iterator[Run]:
    """The segments in order; none of an empty path."""
    if not attributes.segments:
        if attributes.as_path:
            yield Segment.AS_SEQUENCE, attributes.as_path
        return
    at = 0
    for kind, count in attributes.segments:
        yield Segment(kind), attributes.as_path[at : at + count]
        at += count


def kept(segments: Sequence[Run]) -> tuple[tuple[int, int], ...]:
    """For `Attributes.segments`: empty where all is one sequence, or nothing."""
    if all(kind is Segment.AS_SEQUENCE for kind, _ in segments) and len(segments) <= 1:
        return ()
    return tuple((int(kind), len(numbers)) for kind, numbers in segments)


def shown(attributes: Attributes) -> str:
    """As routers show it: `65001 65002 {65003,65004}`."""
    if not attributes.segments:
        return " ".join(map(str, attributes.as_path))
    words = []
    for kind, numbers in runs(attributes):
        if brackets := _BRACKETS.get(kind):
            separator = " " if kind is Segment.AS_CONFED_SEQUENCE else ","
            words.append(f"{brackets[0]}{separator.join(map(str, numbers))}{brackets[1]}")
        else:
            words += map(str, numbers)
    return " ".join(words)
