"""Figures of one run of the benchmarks: how they are kept, shown, and compared with those of another run.

A run is one JSON object: `when`, `commit`, `label`, `machine`, `kernel`, `versions`, `load`, `figures`, and
`not_run` (what could not be run, and why). bench/history.jsonl has one a line.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
HISTORY: Final = Path(__file__).with_name("history.jsonl")
OURS: Final = "l3net"
#: By how much a figure may be worse before it is called a regression.
ALLOWED: Final = 0.10

#: Programs whose versions matter, and how each says its own.
PROGRAMS: Final = {
    "nft": ("nft", "--version"),
    "FRR": ("/usr/lib/frr/bgpd", "--version"),
    "BIRD": ("bird", "--version"),
    "GoBGP": ("gobgpd", "--version"),
}
PACKAGES: Final = ("exabgp", "pyroute2", "kubernetes", "msgspec")


class UnknownRunError(Exception):
    """No run is called so."""


def percentile(values: Sequence[float], share: float) -> float:
    """Of values that there are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Figure:
    """What was measured of whom: the median and the 99th percentile of `number` values, in `unit`. `beside`
    is whom we stand beside, empty if nobody does the same; of `more` more is better."""

    what: str
    who: str
    unit: str
    median: float
    p99: float | None = None
    number: int = 1
    beside: str = ""
    more: bool = False
    target: str = ""

    @staticmethod
    def of(what: str, who: str, unit: str, values: Sequence[float], **rest: Any) -> Figure:
        """Raises ValueError if there is no value."""
        if not values:
            raise ValueError(f"{what}, {who}: nothing was measured")
        return Figure(
            what, who, unit, statistics.median(values), percentile(values, 0.99), len(values), **rest
        )


@dataclass
class Run:
    """Figures, and what they were measured on."""

    figures: list[Figure]
    not_run: dict[str, str] = field(default_factory=dict)
    label: str = ""
    when: str = ""
    commit: str = ""
    machine: str = ""
    kernel: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    @staticmethod
    def here(label: str = "") -> Run:
        """With no figures yet; the load is that of now."""
        return Run(
            [],
            label=label,
            when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            commit=_said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
            machine=_machine(),
            kernel=platform.release(),
            versions=_versions(),
            load=[round(each, 1) for each in os.getloadavg()],
        )

    @staticmethod
    def read(line: str) -> Run:
        """Raises ValueError for what is no run."""
        try:
            found = json.loads(line)
            return Run(**{**found, "figures": [Figure(**each) for each in found["figures"]]})
        except (KeyError, TypeError) as err:
            raise ValueError(f"this is no run of the benchmarks: {err}") from None

    def line(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def _number_in(said: str) -> str:
    """The version that a program says among other words."""
    found = re.search(r"[0-9][\w.-]*", said)
    return found[0] if found else said


def _said(*argv: str) -> str:
    """The first line that a program prints, empty if it cannot be run."""
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def _machine() -> str:
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found.update((name, _number_in(said)) for name, argv in PROGRAMS.items() if (said := _said(*argv)))
    return found


# --- showing ---------------------------------------------------------------------------------------------


def ratio(figure: Figure, figures: Iterable[Figure]) -> float | None:
    """To whom it stands beside, in the same run; None if that was not measured."""
    for other in figures:
        if (other.what, other.who) == (figure.what, figure.beside) and other.median:
            return figure.median / other.median
    return None


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def table(run: Run) -> str:
    """For people, one line a figure."""
    lines = [
        f"{run.machine}; Linux {run.kernel}; load {' '.join(map(str, run.load))}",
        ", ".join(f"{name} {said}" for name, said in run.versions.items()),
        "",
        f"{'':44} {'':26} {'median':>9} {'p99':>9} {'unit':12} {'ratio':>7}  to reach",
    ]
    for each in run.figures:
        beside = ratio(each, run.figures)
        told = f"{beside:.2f}" if beside is not None else ""
        lines.append(
            f"{each.what:44} {each.who:26} {_number(each.median):>9} {_number(each.p99):>9} {each.unit:12} "
            f"{told:>7}  {each.target}".rstrip()
        )
    lines += [f"not run: {name}: {why}" for name, why in run.not_run.items()]
    return "\n".join(lines)


# --- comparing -------------------------------------------------------------------------------------------


def find(name: str, history: Path = HISTORY) -> Run:
    """A run by its label, the beginning of its commit, its line (1 is the first, -1 the last), or the file
    that it alone is in. Raises UnknownRunError, and ValueError for a file that holds something else."""
    path = Path(name)
    if path.is_file():
        return Run.read(path.read_text())
    runs = [Run.read(line) for line in history.read_text().splitlines()] if history.exists() else []
    with_name = [run for run in runs if run.label == name or (len(name) > 3 and run.commit.startswith(name))]
    if with_name:
        return with_name[-1]
    try:
        at = int(name)
        return runs[at - 1 if at > 0 else at]
    except (ValueError, IndexError):
        pass
    known = ", ".join(run.label or run.commit for run in runs) or "none"
    raise UnknownRunError(f"there is no run {name} in {history}, and no such file; there are: {known}")


@dataclass(frozen=True)
class Change:
    """Of a figure of ours, from one run to another. `by` is the share by which it grew, positive if it is
    worse; beside the same peer in each run (`fair`) where both have it: machines and their load differ."""

    figure: Figure
    before: float
    now: float
    by: float
    fair: bool

    @property
    def worse(self) -> bool:
        return self.by > ALLOWED


def changes(before: Run, now: Run) -> list[Change]:
    """Of each figure of ours that both runs have."""
    old = {(each.what, each.who): each for each in before.figures}
    found = []
    for figure in now.figures:
        was = old.get((figure.what, figure.who))
        if was is None or not figure.who.startswith(OURS) or not was.median:
            continue
        ratios = ratio(was, before.figures), ratio(figure, now.figures)
        fair = None not in ratios and was.beside == figure.beside
        first, second = ratios if fair else (was.median, figure.median)
        assert first is not None
        assert second is not None
        grown = second / first - 1 if not figure.more else first / max(second, 1e-12) - 1
        found.append(Change(figure, was.median, figure.median, grown, fair))
    return found


def comparison(before: Run, now: Run, found: Sequence[Change]) -> str:
    """For people; what is worse by more than is allowed is marked."""
    lines = [
        f"{each.label or each.commit} of {each.when}: {each.machine}, load {' '.join(map(str, each.load))}"
        for each in (before, now)
    ]
    lines += ["", f"{'':44} {'':26} {'before':>9} {'now':>9} {'unit':12} {'change':>8}"]
    for each in found:
        what = "beside " + each.figure.beside if each.fair else ""
        mark = "  WORSE" if each.worse else ""
        lines.append(
            f"{each.figure.what:44} {each.figure.who:26} {_number(each.before):>9} {_number(each.now):>9} "
            f"{each.figure.unit:12} {each.by:>+8.0%}  {what}{mark}".rstrip()
        )
    missing = {(f.what, f.who) for f in before.figures} - {(f.what, f.who) for f in now.figures}
    lines += [f"not in the second run: {what}, {who}" for what, who in sorted(missing)]
    return "\n".join(lines)


def as_json(found: Iterable[Change]) -> list[Mapping[str, Any]]:
    return [
        {
            "what": each.figure.what,
            "who": each.figure.who,
            "unit": each.figure.unit,
            "before": each.before,
            "now": each.now,
            "worse_by": round(each.by, 4),
            "beside": each.figure.beside if each.fair else "",
            "regression": each.worse,
        }
        for each in found
    ]
