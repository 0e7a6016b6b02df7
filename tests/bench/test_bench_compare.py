"""`python -m bench compare`: a regression of more than 10 % is seen, and nothing else is called one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import figures  # noqa: E402
from figures import Figure, Run  # noqa: E402


def a_run(ours: float, theirs: float | None = None, more: bool = False, label: str = "") -> Run:
    found = [Figure("one withdraw", "l3net", "ms", ours, beside="GoBGP", more=more)]
    if theirs is not None:
        found.append(Figure("one withdraw", "GoBGP", "ms", theirs, more=more))
    return Run(found, label=label, when="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (a_run(1.0), a_run(1.05), False),
        (a_run(1.0), a_run(1.2), True),
        (a_run(1.0), a_run(0.5), False),
        (a_run(1.0, more=True), a_run(0.8, more=True), True),
        (a_run(1.0, more=True), a_run(2.0, more=True), False),
        # On a machine of half the speed, both are slower.
        (a_run(1.0, 1.0), a_run(2.0, 2.0), False),
        (a_run(1.0, 1.0), a_run(1.0, 0.5), True),
        # The peer was not there the second time: the figure itself.
        (a_run(1.0, 1.0), a_run(2.0), True),
    ],
)
def test_a_regression_is_seen(before: Run, now: Run, worse: bool) -> None:
    (change,) = figures.changes(before, now)
    assert change.worse is worse
    assert ("WORSE" in figures.comparison(before, now, [change])) is worse


def compare(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "compare", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_its_exit_code_tells(tmp_path: Path) -> None:
    files = {}
    for name, ours in (("old", 1.0), ("same", 1.0), ("slow", 1.5)):
        files[name] = str(tmp_path / name)
        Path(files[name]).write_text(json.dumps(asdict(a_run(ours, 1.0, label=name))))
    assert compare(files["old"], files["same"]).returncode == 0
    slow = compare(files["old"], files["slow"], "-o", "json")
    assert slow.returncode == 2
    assert json.loads(slow.stdout)[0]["worse_by"] == 0.5
    unknown = compare(files["old"], "nobody")
    assert unknown.returncode == 1
    assert "there is no run nobody" in unknown.stderr
    Path(files["same"]).write_text("[1]")
    assert compare(files["old"], files["same"]).returncode == 1


def test_runs_are_found_by_label_commit_and_line(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    runs = [replace(a_run(float(n), label=f"run{n}"), commit=f"{n}abcdef") for n in (1, 2, 3)]
    history.write_text("".join(run.line() + "\n" for run in runs))
    for name, number in (("run2", 2), ("3abc", 3), ("1", 1), ("-1", 3)):
        assert figures.find(name, history).figures[0].median == number
    with pytest.raises(figures.UnknownRunError, match="run1, run2, run3"):
        figures.find("9", history)


def test_a_table_tells_ratios_and_what_could_not_be_run() -> None:
    run = replace(a_run(3.0, 2.0), not_run={"pods": "no kubelet"}, machine="2 cores", kernel="6", load=[0.1])
    told = figures.table(run)
    assert "1.50" in told
    assert "not run: pods: no kubelet" in told


def test_what_is_kept_can_be_read() -> None:
    """The file that docs/performance.md tells of."""
    lines = figures.HISTORY.read_text().splitlines() if figures.HISTORY.exists() else []
    for line in lines:
        run = Run.read(line)
        assert run.figures
        assert run.machine
        assert run.commit
