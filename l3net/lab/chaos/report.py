"""What a run found: by fault, and every promise that was broken. Values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l3net.lab.chaos.losses import Happened, Verdict
from l3net.lab.chaos.watch import CONVERGE, Flap, untouched

#: What a loss is put down to when no fault was under way.
NOBODY = "(no fault)"
#: Broken promises of this many seconds apart, with the same cause, are told as one.
_TOGETHER = 3.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that was broken: when (seconds of the run), what, and what was under way."""

    at: float
    what: str
    causes: tuple[str, ...] = ()


@dataclass
class Row:
    """One fault: how often it was, probes lost by it, seconds until all was as declared again."""

    times: int = 0
    lost: list[int] = field(default_factory=list)
    converged: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    seconds: float
    paths: int
    sent: int
    lost: int
    faults: Mapping[str, Row]
    failures: tuple[Failure, ...]
    left_out: Mapping[str, str]
    #: Processor seconds, by whom.
    processor: Mapping[str, float] = field(default_factory=dict)
    #: How many times as long as on an idle machine everything took.
    slowness: float = 1.0

    @property
    def ok(self) -> bool:
        return not self.failures


def told(step: Happened) -> str:
    return f"{step.fault.name} {step.step.target} ({step.began:.1f} to {step.ended:.1f} s)"


def rows(
    happened: Sequence[Happened], verdicts: Iterable[Verdict], converged: Mapping[str, Sequence[float]]
) -> dict[str, Row]:
    """By fault. A loss is put down to one: the last that began before it, of those that may have caused
    it."""
    found: dict[str, Row] = {}
    by_step: dict[int, int] = {}
    for each in happened:
        found.setdefault(each.fault.name, Row()).times += 1
        by_step[id(each)] = 0
    for verdict in verdicts:
        if not verdict.causes:
            found.setdefault(NOBODY, Row()).lost.append(verdict.loss.count)
            continue
        cause = max(verdict.causes, key=lambda each: (each.began <= verdict.loss.first + 0.3, each.began))
        by_step[id(cause)] += verdict.loss.count
    for each in happened:
        found[each.fault.name].lost.append(by_step[id(each)])
    for name, seconds in converged.items():
        found.setdefault(name, Row()).converged += seconds
    return found


def broken(verdicts: Iterable[Verdict]) -> list[Failure]:
    """Losses beyond what is allowed, those of one moment and cause together."""
    groups: list[tuple[tuple[Happened, ...], list[Verdict]]] = []
    for verdict in sorted((v for v in verdicts if v.beyond), key=lambda v: v.beyond[0]):
        for causes, group in groups:
            if causes == verdict.causes and verdict.beyond[0][0] - group[-1].beyond[-1][1] < _TOGETHER:
                group.append(verdict)
                break
        else:
            groups.append((verdict.causes, [verdict]))
    return [_failure(causes, group) for causes, group in groups]


def _failure(causes: Sequence[Happened], group: Sequence[Verdict]) -> Failure:
    start = min(verdict.beyond[0][0] for verdict in group)
    end = max(verdict.beyond[-1][1] for verdict in group)
    count = sum(verdict.loss.count for verdict in group)
    names = sorted({verdict.loss.path.name for verdict in group})
    passed = any(verdict.loss.why == "answered" for verdict in group)
    whys = ", ".join(sorted({verdict.loss.why for verdict in group} - {"", "answered"})[:3])
    what = (
        f"{count} probes {'passed that are forbidden' if passed else 'lost'}"
        f" between {start:.2f} and {end:.2f} s"
        f" on {len(names)} paths: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        f"{f' ({whys})' if whys else ''}"
    )
    return Failure(round(start, 2), what, tuple(told(each) for each in causes))


def flapped(flaps: Sequence[Flap], happened: Sequence[Happened]) -> list[Failure]:
    return [
        Failure(
            round(flap.at, 1),
            f"the session of {flap.router} with {flap.far} went down, which no fault touched: {flap.what}",
            tuple(told(each) for each in happened if each.began <= flap.at <= each.ended + CONVERGE),
        )
        for flap in untouched(flaps, happened)
    ]


def plain(report: Report) -> dict[str, Any]:
    """For JSON and YAML."""
    return {
        "ok": report.ok,
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "paths": report.paths,
        "probesSent": report.sent,
        "probesLost": report.lost,
        "faults": [
            {
                "fault": name,
                "times": row.times,
                "lostWorst": max(row.lost, default=0),
                "lostTotal": sum(row.lost),
                "convergedWorstSeconds": round(max(row.converged, default=0.0), 1),
            }
            for name, row in sorted(report.faults.items())
        ],
        "failures": [
            {"at": failure.at, "what": failure.what, "causes": list(failure.causes)}
            for failure in report.failures
        ],
        "leftOut": dict(report.left_out),
        "slowness": round(report.slowness, 1),
        "processorSeconds": {whom: round(seconds, 1) for whom, seconds in report.processor.items()},
    }
