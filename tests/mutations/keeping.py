"""What is known of mutations: outcomes in a file of somebody's choice, which are taken as long as patch and
code are the same, and found.json beside the patches, by which finds are replayed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from undoing import HERE, ROOT, Mutation

FOUND: Final = HERE / "found.json"
#: Whose Python files decide what a seed does, but for this one.
CODE: Final = ("l3net", "tests/simulated", "tests/mutations")
ASIDE: Final = "test_mutants.py"


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation; `seed` None: no simulation found it, or (no `seeds`) it was not tried.

    `cpu` in seconds, until it was found; `alone` are those of that seed without the mutation. `seconds` is
    what each simulation was given.
    """

    name: str
    world: str
    seed: int | None
    law: str = ""
    what: str = ""
    seeds: int = 0
    cpu: float = 0.0
    alone: float = 0.0
    seconds: float = 0.0

    @property
    def found(self) -> bool:
        return self.seed is not None


@dataclass(frozen=True)
class Record:
    """A seed that has found a mutation, and what it took to come to it."""

    world: str
    seed: int
    law: str
    seeds: int = 0
    cpu: float = 0.0
    alone: float = 0.0


class Book:
    """Outcomes in a file, which need not be there yet. `anew`: what it holds is not used, but for mutations
    that are not tried now it stays."""

    def __init__(self, path: Path, mutations: Iterable[Mutation], *, anew: bool = False) -> None:
        self._path, self._anew = path, anew
        self._lock = threading.Lock()
        self._code = _code()
        there = {each.name for each in mutations}
        held = json.loads(path.read_text()) if path.exists() else []
        self._held: dict[str, dict[str, Any]] = {each["name"]: each for each in held if each["name"] in there}

    def taken(self, mutation: Mutation, seconds: float) -> Outcome | None:
        """What is known of a mutation as it is now. One that was not found counts where it had the time."""
        held = self._held.get(mutation.name)
        if self._anew or held is None or held.get("of") != self._of(mutation):
            return None
        outcome = _outcome(held)
        return outcome if outcome.found or outcome.seconds >= seconds else None

    def hint(self, mutation: Mutation) -> Record | None:
        """The seed that found it as it was."""
        held = self._held.get(mutation.name)
        if self._anew or held is None or held["seed"] is None or held["world"] not in mutation.worlds:
            return None
        return recorded(_outcome(held))

    def write(self, mutation: Mutation, outcome: Outcome) -> None:
        with self._lock:
            self._held[mutation.name] = {**asdict(outcome), "of": self._of(mutation)}
            rows = [self._held[name] for name in sorted(self._held)]
            beside = self._path.with_name(f"{self._path.name}.new")
            beside.write_text(json.dumps(rows, indent=1) + "\n")
            beside.replace(self._path)

    def _of(self, mutation: Mutation) -> str:
        return hashlib.sha256(f"{self._code}\n{mutation}".encode()).hexdigest()


def _code() -> str:
    """The code that decides what seeds do, in short."""
    files = sorted(path for room in CODE for path in (ROOT / room).rglob("*.py") if path.name != ASIDE)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _outcome(held: dict[str, Any]) -> Outcome:
    names = {each.name for each in fields(Outcome)}
    return Outcome(**{name: value for name, value in held.items() if name in names})


def recorded(outcome: Outcome) -> Record:
    """Of one that was found."""
    assert outcome.seed is not None
    return Record(outcome.world, outcome.seed, outcome.law, outcome.seeds, outcome.cpu, outcome.alone)


def records() -> dict[str, Record]:
    """What is known to find mutations, by their names."""
    held = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    return {name: Record(**each) for name, each in held.items()}


def keep(outcomes: Iterable[Outcome]) -> None:
    """What is found is known from now on, and what is not is not."""
    known = records()
    for each in outcomes:
        known.pop(each.name, None)
        if each.found:
            known[each.name] = recorded(each)
    there = {path.stem for path in HERE.glob("*.patch")}
    rows = {name: asdict(known[name]) for name in sorted(known) if name in there}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    FOUND.write_text(f"{{\n{lines}\n}}\n")
