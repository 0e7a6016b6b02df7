"""The shape of an explanation: steps in the order in which a packet, or an announcement, meets them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Mark(enum.Enum):
    """What a step means. The value is what programs read."""

    OK = "ok"
    NOTE = "note"  # worth knowing; it stops nothing
    BAD = "bad"  # it stops packets, or may: the first of these is the answer


@dataclass(frozen=True, slots=True)
class Step:
    """`what` was looked at, `where` (node, peer, endpoint), what was `seen`, and what to do about it.

    `cause`: a stable word for programs. `since` when, in words. `prefix` and `peer` (its address): of an
    announcement. `hedge`: a note that all may not be well, which this node cannot judge.
    """

    what: str
    where: str
    mark: Mark
    seen: str
    advice: str = ""
    cause: str = ""
    since: str = ""
    prefix: str = ""
    peer: str = ""
    hedge: bool = False

    def row(self) -> dict[str, str]:
        """As plain values."""
        return {
            "what": self.what,
            "where": self.where,
            "verdict": self.mark.value,
            "detail": self.seen,
            "advice": self.advice,
            "cause": self.cause,
            "since": self.since,
            "prefix": self.prefix,
            "peer": self.peer,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """`well` is said where no step is bad. `inside`, `outside`: whether it is reached from the cluster and
    from beyond; None: that was not the question. `ends`: of a packet, source, destination and port."""

    subject: str
    steps: tuple[Step, ...]
    well: str
    inside: bool | None = None
    outside: bool | None = None
    ends: tuple[str, str, str] | None = None

    @property
    def bad(self) -> Step | None:
        """The first step that stops packets."""
        return next((step for step in self.steps if step.mark is Mark.BAD), None)

    def answer(self) -> dict[str, Any]:
        """As plain values: `answer` is the first line to read, `advice` the last."""
        bad = self.bad
        hedges = [step.seen for step in self.steps if step.hedge]
        well = f"{self.well}; but {hedges[0]}" if hedges else self.well
        return {
            "subject": self.subject,
            "healthy": bad is None,
            "sure": bad is not None or not hedges,
            "inside": self.inside,
            "outside": self.outside,
            "ends": dict(zip(("source", "destination", "port"), self.ends, strict=True))
            if self.ends
            else None,
            "cause": bad.cause if bad is not None else "",
            "answer": well if bad is None else f"{bad.where}: {bad.seen}" if bad.where else bad.seen,
            "advice": bad.advice if bad is not None else "",
            "steps": [step.row() for step in self.steps],
        }


def ok(what: str, where: str, seen: str, since: str = "") -> Step:
    """A step that is well."""
    return Step(what, where, Mark.OK, seen, since=since)


def note(what: str, where: str, seen: str, advice: str = "", cause: str = "") -> Step:
    """One that stops nothing."""
    return Step(what, where, Mark.NOTE, seen, advice, cause)


def doubt(what: str, where: str, seen: str, advice: str, cause: str) -> Step:
    """One that may stop packets, which cannot be judged here."""
    return Step(what, where, Mark.NOTE, seen, advice, cause, hedge=True)


def bad(what: str, where: str, seen: str, advice: str, cause: str, since: str = "") -> Step:
    """One that stops packets."""
    return Step(what, where, Mark.BAD, seen, advice, cause, since)


def any_bad(steps: Iterable[Step]) -> bool:
    """Whether one of them stops packets."""
    return any(step.mark is Mark.BAD for step in steps)
