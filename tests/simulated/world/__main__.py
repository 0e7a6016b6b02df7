"""Simulated worlds out of seeds: hunt for those that break a law, run one, show one.

\b
  python tests/simulated/worlds.py hunt 1-500             what breaks a law is made small and printed
  python tests/simulated/worlds.py hunt 1- --seconds 600  as many seeds as fit
  python tests/simulated/worlds.py run 17 --verbose       one seed, with what the agents log
  python tests/simulated/worlds.py show 17                what a seed draws
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import count

import click

from world.case import Broken, Case, pasted
from world.draws import draw
from world.run import live
from world.shrink import shrink


def _one(seed: int) -> tuple[int, list[Broken], float, float]:
    began = time.process_time()
    case = draw(seed)
    found, seconds = live(case)
    return seed, found, seconds / 3600 * len(case.shape.names), time.process_time() - began


def _seeds(text: str) -> Iterable[int]:
    if not re.fullmatch(r"[0-9]+(-[0-9]*)?", text):
        raise click.BadParameter(f"{text!r} is neither a seed (17) nor seeds (1-500; 1- as many as fit)")
    first, dash, last = text.partition("-")
    if last and int(last) < int(first):
        raise click.BadParameter(f"{text!r}: there is none between")
    if not dash:
        return [int(first)]
    return range(int(first), int(last) + 1) if last else count(int(first))


@click.group(help=__doc__)
def main() -> None:
    logging.getLogger("l3net").setLevel(logging.WARNING)
    logging.getLogger("l3net").propagate = False


@main.command()
@click.argument("seeds")
@click.option("--seconds", type=click.FloatRange(0), help="Stop after this long.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option("--shrink/--no-shrink", "small", default=True, show_default=True)
@click.option("--first", is_flag=True, help="Stop at the first.")
def hunt(seeds: str, seconds: float | None, jobs: int, small: bool, first: bool) -> None:
    """Run seeds; exit code 1 if one breaks a law."""
    wanted = iter(_seeds(seeds))
    began, hours, cpu, ran, bad = time.monotonic(), 0.0, 0.0, 0, []
    with ProcessPoolExecutor(jobs) as pool:
        pending = {pool.submit(_one, seed) for _, seed in zip(range(jobs * 2), wanted, strict=False)}
        while pending:
            done = next(iter(sorted(pending, key=lambda each: not each.done())))
            pending.discard(done)
            seed, found, lasted, took = done.result()
            ran, hours, cpu = ran + 1, hours + lasted, cpu + took
            for each in found:
                click.echo(f"seed {seed}: {each}")
            if found:
                bad.append((seed, found[0].law))
            late = seconds is not None and time.monotonic() - began > seconds
            if not late and not (first and bad) and (seed := next(wanted, -1)) >= 0:
                pending.add(pool.submit(_one, seed))
    took = time.monotonic() - began
    click.echo(
        f"{ran} seeds, {hours:.0f} node-hours in {took:.0f} s: {hours / took * 60:.0f} a minute"
        f" ({hours / max(cpu, 0.001) * 60:.0f} a minute and processor)"
    )
    for seed, law in bad[:3] if small else ():
        click.echo(f"seed {seed}, {law!r}, made small:\n{_small(draw(seed), law)}")
    raise SystemExit(bool(bad))


def _small(case: Case, law: str) -> str:
    found = shrink(case, lambda each: any(one.law == law for one in live(each)[0]))
    return pasted(found) + "".join(f"    # {each}\n" for each in live(found)[0])


@main.command()
@click.argument("seed", type=int)
@click.option("--verbose", is_flag=True, help="With what the agents log.")
def run(seed: int, verbose: bool) -> None:
    """One seed."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        logging.getLogger("l3net").propagate = True
        logging.getLogger("l3net").setLevel(logging.INFO)
    found, seconds = live(draw(seed))
    for each in found:
        click.echo(str(each))
    click.echo(f"{seconds:.0f} simulated seconds")
    raise SystemExit(bool(found))


@main.command()
@click.argument("seed", type=int)
def show(seed: int) -> None:
    """The case of a seed, as a test has it."""
    click.echo(pasted(draw(seed)), nl=False)


if __name__ == "__main__":
    main()
