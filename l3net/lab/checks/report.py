"""Checks and their findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from l3net.errors import L3netError
from l3net.lab.machine import CheckedLab


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing a check looked at. `family` is the IP version, None where it covers both; seconds it took."""

    check: str
    what: str
    ok: bool
    expected: str
    seen: str
    family: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. One that `disturbs` the lab runs alone, after the others, and mends what it broke."""

    name: str
    title: str
    run: Callable[[CheckedLab], Iterable[CheckResult]]
    disturbs: bool = False

    def findings(self, lab: CheckedLab) -> list[CheckResult]:
        """Run it; an error is a finding too."""
        start = time.monotonic()
        found: list[CheckResult] = []
        try:
            for finding in self.run(lab):
                found.append(finding)  # noqa: PERF402 - what was found before an error counts
        except L3netError as err:
            found.append(CheckResult(self.name, self.title, False, "an answer", str(err)))
        if not found:
            found.append(CheckResult(self.name, self.title, True, "", "nothing to check in this topology"))
        share = (time.monotonic() - start) / len(found)
        return [finding if finding.seconds else replace(finding, seconds=share) for finding in found]


def run_checks(
    lab: CheckedLab, checks: Iterable[Check], begun: Callable[[Check], None]
) -> Iterator[CheckResult]:
    """Findings in the order of the checks; those that only look run at the same time."""
    checks = list(checks)
    lookers = [check for check in checks if not check.disturbs]
    with ThreadPoolExecutor(max_workers=4) as pool:
        running = [(check, pool.submit(check.findings, lab)) for check in lookers]
        for check, result in running:
            begun(check)
            yield from result.result()
    for check in checks:
        if check.disturbs:
            begun(check)
            yield from check.findings(lab)
