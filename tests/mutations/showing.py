"""Outcomes as tables in Markdown, and their place in docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import click
from keeping import Outcome
from undoing import ROOT, Mutation

DOCUMENT: Final = ROOT / "docs" / "reliability.md"
MARKS: Final = ("<!-- mutations begin -->\n", "<!-- mutations end -->\n")
#: Of what is not found, where the patch does not say why.
UNKNOWN: Final = "not known yet"
_ROW: Final = re.compile(r"^\| ([a-z0-9-]+) \| ([^|]|\\\|)*\| (\w+) \| ")


def share(outcomes: Sequence[Outcome]) -> float:
    """Of those that can be expressed, how many are found."""
    return sum(each.found for each in outcomes) / max(1, len(outcomes))


def tables(mutations: Sequence[Mutation], outcomes: Sequence[Outcome], seconds: float) -> str:
    """By kind of simulation, what was found, and what was not."""
    by_name = {each.name: each for each in mutations}
    return "\n".join(
        (*_summary(by_name, outcomes, seconds), *_found(by_name, outcomes), *_missed(by_name, outcomes), "")
    )


def _summary(by_name: dict[str, Mutation], outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    found, cpu = sum(each.found for each in outcomes), sum(each.cpu for each in outcomes)
    yield (
        f"{found} of {len(outcomes)} found ({100 * share(outcomes):.0f} %), in {cpu:.0f} s of CPU time; up to"
        f" {seconds:.0f} s for each and simulation. A patch counts for the simulation that it names first;"
        " others may find it."
    )
    yield ""
    yield "| Simulation | Patches | Found | Share | Of these by another | CPU s |"
    yield "|---|---|---|---|---|---|"
    homes = {name: mutation.worlds[0] for name, mutation in by_name.items()}
    for home in sorted(set(homes.values())):
        mine = [each for each in outcomes if homes[each.name] == home]
        by = [each for each in mine if each.found]
        others = sum(each.world != home for each in by)
        spent = sum(each.cpu for each in mine)
        yield f"| {home} | {len(mine)} | {len(by)} | {100 * share(mine):.0f} % | {others} | {spent:.0f} |"


def _found(by_name: dict[str, Mutation], outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield from (
        "",
        "| Patch | What is wrong with it | Found by | Law | Seed | CPU s |",
        "|---|---|---|---|---|---|",
    )
    for each in outcomes:
        if each.found:
            undoes, law = map(_cell, (by_name[each.name].undoes, each.law))
            yield f"| {each.name} | {undoes} | {each.world} | {law} | {each.seed} | {each.cpu:.1f} |"


def _missed(by_name: dict[str, Mutation], outcomes: Sequence[Outcome]) -> Iterator[str]:
    missed = [each for each in outcomes if not each.found]
    if not missed:
        return
    yield from ("", "| Not found | What is wrong with it | Simulations | Why |", "|---|---|---|---|")
    for each in missed:
        mutation = by_name[each.name]
        why = (mutation.missed or UNKNOWN) if each.seeds else "not tried"
        yield f"| {each.name} | {_cell(mutation.undoes)} | {each.world} | {_cell(why)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _parts() -> tuple[str, str, str]:
    """The document before, between and behind the two marks, which go with what is outside."""
    head, begin, rest = DOCUMENT.read_text().partition(MARKS[0])
    between, end, tail = rest.partition(MARKS[1])
    if not (begin and end):
        raise click.ClickException(f"{DOCUMENT} has no {MARKS[0].strip()} and {MARKS[1].strip()}")
    return head + begin, between, end + tail


def publish(text: str) -> None:
    """Between the two marks of the document."""
    head, _, tail = _parts()
    DOCUMENT.write_text(f"{head}\n{text}\n{tail}")


def published() -> dict[str, str]:
    """What the document calls found, and by which simulation."""
    rows = (_ROW.match(line) for line in _parts()[1].splitlines())
    return {row[1]: row[3] for row in rows if row is not None and not row[3].isdigit()}
