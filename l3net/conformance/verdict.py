"""Running the cases and saying how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from l3net.conformance.bench import Bench, CaseFailed, NotApplicable

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "not applicable"


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation: `point` groups it, `title` says it."""

    point: str
    title: str
    run: Callable[[Bench], None]


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    point: str
    title: str
    verdict: str
    why: str = ""


CASES: list[Case] = []


def case(point: str, title: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Register a case."""

    def register(run: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CASES.append(Case(point, title, run))
        return run

    return register


def judge(each: Case, bench: Bench) -> CaseVerdict:
    try:
        each.run(bench)
    except CaseFailed as err:
        return CaseVerdict(each.point, each.title, FAILED, str(err))
    except NotApplicable as err:
        return CaseVerdict(each.point, each.title, SKIPPED, str(err))
    except (KeyError, IndexError, TypeError, ValueError, OSError) as err:
        return CaseVerdict(each.point, each.title, FAILED, f"unexpected answer: {err!r}")
    return CaseVerdict(each.point, each.title, PASSED)


def score(verdicts: Iterable[CaseVerdict]) -> tuple[int, int]:
    """Passed, and applicable."""
    counted = [each for each in verdicts if each.verdict != SKIPPED]
    return sum(1 for each in counted if each.verdict == PASSED), len(counted)
