"""Fixes taken back: the patches beside this file, what they say of themselves, and a copy of l3net with one.

A patch begins with headers: `Undoes:` what is wrong with it, `Told:` where the history tells of the fix, and
`World:` the simulations that can express it, as in hunted.py; where none finds it, `Missed:` may say why. It
is against the code of today: what it finds there has to be there exactly, wherever in the file.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
HEADERS: Final = ("Undoes", "Told", "World")
MISSED: Final = "Missed"
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


class DoesNotApplyError(Exception):
    """A patch is for other code than there is."""


@dataclass(frozen=True)
class Hunk:
    """`before`: the lines that have to be there, about from line number `at` on, with their newlines."""

    file: str
    at: int
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Mutation:
    """One fix taken back. `worlds` are tried in this order. `missed`: why none of them finds it."""

    name: str
    undoes: str
    told: str
    worlds: tuple[str, ...]
    hunks: tuple[Hunk, ...]
    missed: str = ""


def read(path: Path) -> Mutation:
    """Raises ValueError for what is no such patch."""
    head, _, body = path.read_text().partition("--- ")
    found = dict(line.split(": ", 1) for line in head.splitlines() if line)
    missed = found.pop(MISSED, "")
    if tuple(found) != HEADERS:
        raise ValueError(f"{path.name}: the headers are {', '.join(HEADERS)}, in this order, and {MISSED}")
    hunks = tuple(_hunks("--- " + body))
    if not hunks:
        raise ValueError(f"{path.name}: no hunk")
    undoes, told, worlds = (found[each] for each in HEADERS)
    return Mutation(path.stem, undoes, told, tuple(worlds.split(", ")), hunks, missed)


def _hunks(text: str) -> Iterator[Hunk]:
    file, at = "", 0
    before: list[str] = []
    after: list[str] = []
    for line in (*text.splitlines(keepends=True), "--- "):
        match = _HUNK.match(line)
        if (match or line.startswith("--- ")) and before:
            yield Hunk(file, at, tuple(before), tuple(after))
            before, after = [], []
        if line.startswith("--- "):
            continue
        if line.startswith("+++ "):
            file = line.removeprefix("+++ b/").strip()
        elif match:
            at = int(match[1])
        else:
            body = line[1:] if len(line) > 1 else "\n"
            before += [body] * (line[0] in " -\n")
            after += [body] * (line[0] in " +\n")


def all_of_them() -> list[Mutation]:
    """By name."""
    return [read(path) for path in sorted(HERE.glob("*.patch"))]


def applied(hunk: Hunk, lines: list[str]) -> list[str]:
    """The file with a hunk. Raises DoesNotApplyError."""
    size = len(hunk.before)
    places = [at for at in range(len(lines) - size + 1) if tuple(lines[at : at + size]) == hunk.before]
    if not places:
        raise DoesNotApplyError(f"{hunk.file}: what the patch has about line {hunk.at} is not there")
    at = min(places, key=lambda place: abs(place - hunk.at))
    return [*lines[:at], *hunk.after, *lines[at + size :]]


def changed(mutation: Mutation, root: Path = ROOT) -> dict[str, str]:
    """The files that it changes, as they are with it. Raises DoesNotApplyError, SyntaxError."""
    found: dict[str, list[str]] = {}
    for hunk in mutation.hunks:
        lines = found.get(hunk.file) or (root / hunk.file).read_text().splitlines(keepends=True)
        found[hunk.file] = applied(hunk, lines)
    texts = {file: "".join(lines) for file, lines in found.items()}
    for file, text in texts.items():
        ast.parse(text, file)
    return texts


def copied(mutation: Mutation, to: Path) -> Path:
    """A directory with a copy of l3net that has the mutation."""
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "l3net", to / "l3net", ignore=skipped, dirs_exist_ok=True)
    for file, text in changed(mutation).items():
        (to / file).write_text(text)
    return to
