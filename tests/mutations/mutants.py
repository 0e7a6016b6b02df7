"""Which fixes the simulations would miss: each patch of this directory is applied to a copy of l3net, and
seeds run until a law is broken, or the time is over.

python tests/mutations/run.py [--only NAME] [--seconds 20] [--jobs 2] [--json FILE] [--publish]

A find counts only where the same seed breaks nothing without the patch. `--publish` writes the table into
docs/reliability.md, between its two marks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from undoing import HERE, ROOT, Mutation, all_of_them, copied

#: CPU seconds for one mutation in one simulation.
SECONDS: Final = 20.0
DOCUMENT: Final = ROOT / "docs" / "reliability.md"
MARKS: Final = ("<!-- mutations begin -->\n", "<!-- mutations end -->\n")
#: A process that takes so many times the CPU time it may is ended: it does not get on.
PATIENCE: Final = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation; `seed` None: no simulation found it. `cpu` in seconds, the control's
    aside."""

    name: str
    undoes: str
    told: str
    world: str
    seed: int | None
    law: str
    what: str
    seeds: int
    cpu: float


def hunted(root: Path, world: str, seconds: float, first: int = 0) -> dict[str, Any]:
    """The answer of hunted.py, with the l3net of `root`; without `seconds` of one seed alone."""
    command = [sys.executable, str(HERE / "hunted.py"), world, str(seconds), str(first)]
    limit = PATIENCE * (seconds or SECONDS) + 120
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=root, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {
            "seeds": 0,
            "cpu": limit,
            "seed": -1,
            "law": "a run ends",
            "what": f"not within {limit:.0f} s",
        }
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return {"seeds": 0, "cpu": 0.0, "seed": -1, "law": "a simulation begins", "what": last[:300]}
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["l3net"] == str(root / "l3net"), found["l3net"]
    return found


def tried(mutation: Mutation, seconds: float) -> Outcome:
    """One mutation, in each of its worlds until one finds it."""
    ran, cpu = 0, 0.0
    about = mutation.name, mutation.undoes, mutation.told
    with tempfile.TemporaryDirectory() as directory:
        root = copied(mutation, Path(directory).resolve())
        for world in mutation.worlds:
            spent, first = 0.0, 0
            while spent < seconds:
                found = hunted(root, world, seconds - spent, first)
                ran, spent = ran + found["seeds"], spent + found["cpu"]
                seed = found["seed"]
                if seed is None or seed < 0:
                    break
                if hunted(ROOT, world, 0, seed)["seed"] is None:
                    named = found["law"], found["what"]
                    return Outcome(*about, world, seed, *named, ran, round(cpu + spent, 1))
                first = seed + 1  # it breaks a law as it is
            cpu += spent
    return Outcome(*about, ", ".join(mutation.worlds), None, "", "", ran, round(cpu, 1))


def try_all(mutations: Sequence[Mutation], seconds: float = SECONDS, jobs: int = 2) -> list[Outcome]:
    """Each of them, `jobs` at a time."""

    def one(mutation: Mutation) -> Outcome:
        outcome = tried(mutation, seconds)
        sys.stderr.write(f"{_line(outcome)}\n")
        sys.stderr.flush()
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutations))


def _line(outcome: Outcome) -> str:
    if outcome.seed is None:
        return f"{outcome.name}: NOT FOUND by {outcome.world} in {outcome.cpu} s, {outcome.seeds} seeds"
    return f"{outcome.name}: {outcome.world} seed {outcome.seed} in {outcome.cpu} s: {outcome.law}"


def share(outcomes: Sequence[Outcome]) -> float:
    """Of those that can be expressed, how many are found."""
    return sum(each.seed is not None for each in outcomes) / max(1, len(outcomes))


def table(outcomes: Sequence[Outcome], seconds: float = SECONDS) -> str:
    """In Markdown."""
    found = sum(each.seed is not None for each in outcomes)
    lines = [
        f"{found} of {len(outcomes)} found ({100 * share(outcomes):.0f} %), in"
        f" {sum(each.cpu for each in outcomes):.0f} s of CPU time; {seconds:.0f} s for each and simulation.",
        "",
        "| Patch | What is wrong with it | Found by | Law | Seed | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for each in outcomes:
        seed = "" if each.seed is None else str(each.seed)
        by = each.world if each.seed is not None else f"not found ({each.world})"
        lines.append(
            f"| {each.name} | {_cell(each.undoes)} | {by} | {_cell(each.law)} | {seed} | {each.cpu:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def publish(text: str) -> None:
    """Between the two marks of the document."""
    head, begin, rest = DOCUMENT.read_text().partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not (begin and end):
        raise click.ClickException(f"{DOCUMENT} has no {MARKS[0].strip()} and {MARKS[1].strip()}")
    DOCUMENT.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Names of patches, or how they begin.")
@click.option("--seconds", default=SECONDS, show_default=True, help="CPU time for each in each simulation.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write what was found to a file.")
@click.option("--publish", "published", is_flag=True, help="Write the table into docs/reliability.md.")
def main(only: tuple[str, ...], seconds: float, jobs: int, as_json: Path | None, published: bool) -> None:
    """See above."""
    wanted = [each for each in all_of_them() if not only or each.name.startswith(only)]
    outcomes = try_all(wanted, seconds, jobs)
    text = table(outcomes, seconds)
    if as_json is not None:
        as_json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    if published:
        publish(text)
    click.echo(text, nl=False)


if __name__ == "__main__":
    main()
