"""Which fixes the simulations would miss: each patch of this directory is applied to a copy of l3net, and
seeds run until a law is broken, or the time is over.

python tests/mutations/run.py [--only NAME] [--seconds 60] [--jobs 2] [--json FILE] [--anew] [--publish]

A find counts only where the same seed breaks nothing without the patch. What FILE holds of the same patch and
the same code is taken from there, and each outcome is written to it as it comes, so that a run that was ended
goes on where it was. Seeds that found a patch before (FILE, found.json) are tried first. `--anew` knows
nothing of before. `--publish` writes the tables into docs/reliability.md, between its two marks, and
found.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from keeping import Book, Outcome, Record, keep, records
from showing import DOCUMENT, publish, share, tables
from undoing import HERE, ROOT, Mutation, all_of_them, copied

#: CPU seconds for one mutation in one simulation.
SECONDS: Final = 60.0
#: CPU seconds for all of them; what is left then is not tried.
TOTAL: Final = 4 * 3600.0
#: A process that takes so many times the CPU time it may is ended: it does not get on.
PATIENCE: Final = 8
#: CPU seconds of one seed that has no other limit.
ONE_SEED: Final = 60.0


def hunted(root: Path, world: str, seconds: float, first: int = 0) -> dict[str, Any]:
    """The answer of hunted.py, with the l3net of `root`; without `seconds` of one seed alone."""
    command = [sys.executable, str(HERE / "hunted.py"), world, str(seconds), str(first)]
    limit = PATIENCE * (seconds or ONE_SEED) + 120
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


def tried(mutation: Mutation, seconds: float, known: Record | None = None) -> Outcome:
    """One mutation: by the seed that is known to find it, else in each of its worlds until one does."""
    with tempfile.TemporaryDirectory() as directory:
        root = copied(mutation, Path(directory).resolve())
        if known is not None and (again := _again(mutation, root, known)) is not None:
            return again
        return _hunted_for(mutation, root, seconds)


def _again(mutation: Mutation, root: Path, known: Record) -> Outcome | None:
    """By its seed of before; `cpu` stays what it took to come to that."""
    found = hunted(root, known.world, 0, known.seed)
    if found["seed"] != known.seed:
        return None
    clean = hunted(ROOT, known.world, 0, known.seed)
    if clean["seed"] is not None:
        return None
    return _of(mutation, known.world, found, clean, known.seeds, known.cpu)


def _hunted_for(mutation: Mutation, root: Path, seconds: float) -> Outcome:
    ran, cpu = 0, 0.0
    for world in mutation.worlds:
        spent, first = 0.0, 0
        while spent < seconds:
            found = hunted(root, world, seconds - spent, first)
            ran, spent = ran + found["seeds"], spent + found["cpu"]
            seed = found["seed"]
            if seed is None or seed < 0:
                break
            clean = hunted(ROOT, world, 0, seed)
            if clean["seed"] is None:
                return _of(mutation, world, found, clean, ran, cpu + spent)
            first = seed + 1  # it breaks a law as it is
        cpu += spent
    worlds = ", ".join(mutation.worlds)
    return Outcome(mutation.name, worlds, None, seeds=ran, cpu=round(cpu, 1), seconds=seconds)


def _of(
    mutation: Mutation, world: str, found: dict[str, Any], clean: dict[str, Any], seeds: int, cpu: float
) -> Outcome:
    named = found["law"], found["what"]
    alone = round(clean["cpu"], 2)
    return Outcome(mutation.name, world, found["seed"], *named, seeds, round(cpu, 1), alone)


@dataclass
class _Spent:
    """CPU seconds, and how many are done."""

    cpu: float = 0.0
    done: int = 0


def try_all(
    mutations: Sequence[Mutation],
    seconds: float = SECONDS,
    jobs: int = 2,
    *,
    total: float = TOTAL,
    known: Mapping[str, Record] | None = None,
    book: Book | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Outcome]:
    """Each of them, `jobs` at a time. `known`: by which seeds to try them first. What `book` holds of a
    mutation as it is now is not tried again, and it is told of each that was."""
    hints, spent = dict(known or {}), _Spent()

    def one(mutation: Mutation) -> Outcome:
        outcome = book.taken(mutation, seconds) if book is not None else None
        taken = outcome is not None
        if outcome is None and spent.cpu > total:
            outcome = Outcome(mutation.name, ", ".join(mutation.worlds), None)
        elif outcome is None:
            hint = hints.get(mutation.name) or (book.hint(mutation) if book is not None else None)
            outcome = tried(mutation, seconds, hint)
            # What is found by a seed of before has cost two or three runs of that.
            cost = 3 * outcome.alone if hint and outcome.found else outcome.cpu
            spent.cpu += cost
            if book is not None:
                book.write(mutation, outcome)
        spent.done += 1
        say(f"[{spent.done}/{len(mutations)}] {_line(outcome)}{' (known)' if taken else ''}")
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutations))


def _line(outcome: Outcome) -> str:
    if outcome.seed is not None:
        return f"{outcome.name}: {outcome.world} seed {outcome.seed} in {outcome.cpu} s: {outcome.law}"
    if not outcome.seeds:
        return f"{outcome.name}: NOT TRIED"
    return f"{outcome.name}: NOT FOUND by {outcome.world} in {outcome.cpu} s, {outcome.seeds} seeds"


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Names of patches, or how they begin.")
@click.option("--seconds", default=SECONDS, show_default=True, help="CPU time for each in each simulation.")
@click.option("--total", default=TOTAL, show_default=True, help="CPU time for all.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="What is known, and is written.")
@click.option("--anew", is_flag=True, help="Nothing is known.")
@click.option("--publish", "published", is_flag=True, help=f"Write {DOCUMENT.name} and found.json.")
def main(
    only: tuple[str, ...],
    seconds: float,
    total: float,
    jobs: int,
    as_json: Path | None,
    anew: bool,
    published: bool,
) -> None:
    """See above."""
    if published and only:
        raise click.UsageError("--publish is for all of them")
    everything = all_of_them()
    wanted = [each for each in everything if not only or each.name.startswith(only)]
    book = Book(as_json, everything, anew=anew) if as_json is not None else None

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    known = {} if anew else records()
    outcomes = try_all(wanted, seconds, jobs, total=total, known=known, book=book, say=say)
    text = tables(wanted, outcomes, seconds)
    if published:
        publish(text)
        keep(outcomes)
    click.echo(text, nl=False)
    click.echo(f"{100 * share(outcomes):.0f} % found", err=True)


if __name__ == "__main__":
    main()
