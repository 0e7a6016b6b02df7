"""What was lost, by whose fault, and whether that was allowed: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from l3net.lab.chaos.busy import Busy
from l3net.lab.chaos.fault import Allowance, Fault
from l3net.lab.chaos.path import ProbePath
from l3net.lab.chaos.step import Step
from l3net.lab.chaos.ways import has_way, left
from l3net.lab.topology import Topology

#: Seconds after a fault's end in which a loss is still put down to it.
AFTERMATH = 15.0
#: Seconds that a path may take to carry again once there is a way.
RECOVERY = 12.0
#: A probe's time is when it was sent; the fault may have met it or its answer a moment later.
EARLY = 0.25
#: By what it depends whether a path has a way.
_Ways: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...], bool]


@dataclass(frozen=True, slots=True)
class Happened:
    """A step as it was carried out: when it began and had ended (seconds of the run)."""

    step: Step
    fault: Fault
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Probes of one path in a row without an answer; of a forbidden one, with one. Seconds of the run."""

    path: ProbePath
    first: float
    last: float
    count: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A loss, the steps it is put down to, and what of it was not allowed (seconds; none if empty)."""

    loss: Loss
    causes: tuple[Happened, ...]
    beyond: tuple[tuple[float, float], ...]


class Judge:
    """Holds losses against what faults may cost. The seconds of an allowance are those of a machine that is
    not busy: `busy` tells how long they took."""

    def __init__(self, topology: Topology, happened: Sequence[Happened], busy: Busy | None = None) -> None:
        self._topology = topology
        self._busy = busy or Busy()
        self._happened = tuple(happened)
        self._wayless: dict[_Ways, list[tuple[float, float]]] = {}

    def verdict(self, loss: Loss) -> Verdict:
        beyond = without((loss.first, loss.last), self.windows(loss.path, loss.count))
        return Verdict(loss, self.causes(loss), tuple(beyond))

    def causes(self, loss: Loss) -> tuple[Happened, ...]:
        """Those under way then that may cost this path something; else all under way; else none."""
        then = [
            each
            for each in self._happened
            if each.began - EARLY <= loss.last and loss.first <= each.ended + AFTERMATH
        ]
        likely = [each for each in then if self._touched(each, loss.path)]
        return tuple(likely or then)

    def _touched(self, each: Happened, path: ProbePath) -> bool:
        if any(path.allowed_by(allowance) for allowance in self._allowances(each)):
            return True
        return bool(each.fault.cuts(self._topology, each.step.target)) and path.crossing

    def _allowances(self, each: Happened) -> tuple[Allowance, ...]:
        return each.fault.allows(self._topology, each.step.target)

    def windows(self, path: ProbePath, count: int) -> list[tuple[float, float]]:
        """When so many probes of a path in a row may be lost."""
        found = list(self._without_way(path))
        for each in self._happened:
            for allowance in self._allowances(each):
                if not path.allowed_by(allowance) or 0 < allowance.most < count:
                    continue
                if allowance.whole:
                    found.append((each.began - EARLY, self._after(each.ended, allowance.end)))
                    continue
                if allowance.begin:
                    found.append((each.began - EARLY, self._after(each.began, allowance.begin)))
                if allowance.end:
                    found.append((each.ended - EARLY, self._after(each.ended, allowance.end)))
        return found

    def _after(self, start: float, seconds: float) -> float:
        return self._busy.after(start, seconds)

    def _without_way(self, path: ProbePath) -> list[tuple[float, float]]:
        """When the faults of the moment together leave no way, and a while after."""
        key = (path.source, path.ends, path.translators, path.masked)
        if key not in self._wayless:
            cutting = [each for each in self._happened if each.fault.cuts(self._topology, each.step.target)]
            # What is cut counts until the routes are back, for others may be cut meanwhile.
            until = {id(each): self._after(each.ended, RECOVERY) for each in cutting}
            edges = sorted({t for each in cutting for t in (each.began, until[id(each)])})
            self._wayless[key] = [
                (start - EARLY, end)
                for start, end in pairwise(edges)
                if not self._reachable(path, [e for e in cutting if e.began <= start < until[id(e)]])
            ]
        return self._wayless[key]

    def _reachable(self, path: ProbePath, cutting: Sequence[Happened]) -> bool:
        """Whether every end can be reached; of a service, every end that has not been vacated."""
        cuts = [cut for each in cutting for cut in each.fault.cuts(self._topology, each.step.target)]
        vacated = {each.step.target for each in cutting if each.fault.vacates} if path.translators else set()
        ends = [end for end in path.ends if end not in vacated and end != path.source]
        hosts = {cut.host for cut in cuts if not cut.far}
        if not ends or not path.crossing:
            return True
        if path.masked or hosts & {path.source, *ends}:
            return False
        remaining = left(self._topology, cuts)
        return all(has_way(remaining, path.source, end) for end in ends)


def without(span: tuple[float, float], windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """What of a span no window covers."""
    spans = [span]
    for start, end in windows:
        spans = [
            piece
            for first, last in spans
            for piece in (
                [(first, last)]
                if last < start or first > end
                else [*([(first, start)] if first < start else []), *([(end, last)] if last > end else [])]
            )
        ]
    return spans
