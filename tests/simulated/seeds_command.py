"""The command of `cluster/` and `pods/`: seeds to try, or one to cut down."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence

import click
from stepped import Case, Run, cut_down


def main(
    words: Sequence[str],
    usage: str | None,
    draw: Callable[[int], Case],
    run: Run,
) -> None:
    """Exits with 1 if something did not hold, 2 if the words are none of `FIRST BEFORE` and `shrink SEED`."""
    if set(words) & {"-h", "--help"}:
        click.echo((usage or "").strip())
        return
    logging.disable(logging.CRITICAL)
    match [int(word) if word.isdecimal() else word for word in words]:
        case ["shrink", int(seed)]:
            if not run(draw(seed)):
                click.echo(f"seed {seed}: everything holds")
                return
            click.echo(cut_down(draw(seed), run))
        case [int(first), int(last)] if first < last:
            sys.exit(_tried(range(first, last), draw, run))
        case _:
            click.echo((usage or "").strip(), err=True)
            sys.exit(2)


def _tried(seeds: range, draw: Callable[[int], Case], run: Run) -> int:
    began, bad = time.process_time(), 0
    for seed in seeds:
        if found := run(draw(seed)):
            bad += 1
            click.echo(f"seed {seed}: " + "".join(f"\n  {each}" for each in found[:6]))
    click.echo(f"{len(seeds)} seeds, {bad} bad, {time.process_time() - began:.1f} s CPU")
    return int(bad > 0)
