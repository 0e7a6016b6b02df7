"""`l3net lab chaos`: faults drawn from a seed, on a lab that is measured all the while."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path

import click
import yaml
from click.core import ParameterSource

from l3net.cli.lab_machines import need_root
from l3net.cli.output import output_option, print_table, print_value
from l3net.errors import ConfigError
from l3net.lab.chaos.catalogue import FAULTS, chosen
from l3net.lab.chaos.draw import AT_ONCE, drawn
from l3net.lab.chaos.fault import Fault
from l3net.lab.chaos.measure import EVERY
from l3net.lab.chaos.report import Report, plain
from l3net.lab.chaos.run import run
from l3net.lab.chaos.shrink import shrunk
from l3net.lab.chaos.step import Schedule, parsed, written
from l3net.lab.errors import LabExistsError
from l3net.lab.state import TopologySource, lab_directory, read_source, read_text
from l3net.lab.topology import RouterKind
from l3net.lab.up import bring_up, take_down

NAME = "chaos"
_Say = Callable[[str], None]
#: As slow as this a machine hides faults that a quiet one shows.
_BUSY = 3.0
#: A week.
_LONGEST = 7 * 24 * 60.0
#: What says how to draw, and says nothing where a schedule is given.
_DRAWING = ("seed", "minutes", "at_once", "faults", "without")


def _words(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    return tuple(word for word in (text or "").split(",") if word)


def _finite(_context: click.Context, _parameter: click.Parameter, minutes: float) -> float:
    if math.isnan(minutes):  # it is in every range
        raise click.BadParameter("nan is no number")
    return minutes


@click.command()
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Seed of the random choices.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.5, _LONGEST),
    default=5.0,
    show_default=True,
    callback=_finite,
    metavar="M",
    help="Duration from the first probe to the last.",
)
@click.option(
    "--topology",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Topology of the lab. Default: that of `l3net lab up`.",
)
@click.option(
    "--router-kind",
    type=click.Choice([kind.value for kind in RouterKind]),
    help="Software for every router; overrides the topology.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 16),
    default=AT_ONCE,
    show_default=True,
    metavar="N",
    help="Maximum number of faults at the same time.",
)
@click.option("--faults", callback=_words, metavar="A,B", help="Draw only from these faults or families.")
@click.option("--without", callback=_words, metavar="A,B", help="Exclude these faults or families.")
@click.option(
    "--every",
    type=click.IntRange(1, 1000),
    default=round(EVERY * 1000),
    show_default=True,
    metavar="MS",
    help="Milliseconds between probes of a path.",
)
@click.option("--list-faults", is_flag=True, help="List the faults, and do nothing else.")
@click.option("--plan", is_flag=True, help="Print the schedule, and do nothing else.")
@click.option(
    "--schedule",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Execute a schedule printed by --plan instead of drawing one, with its topology unless "
    "--topology is given.",
)
@click.option(
    "--shrink",
    is_flag=True,
    help="If a guarantee is broken, remove steps as long as one still is, and print the remaining"
    " schedule; the report goes to standard error. Each attempt is a full run: expect an "
    "hour rather than minutes.",
)
@click.option("--name", default=NAME, show_default=True, metavar="NAME", help="Name of the lab.")
@click.option("--keep", is_flag=True, help="Leave the lab up at the end, with its logs.")
@output_option
def chaos(
    seed: int,
    minutes: float,
    topology: Path | None,
    router_kind: str | None,
    at_once: int,
    faults: tuple[str, ...],
    without: tuple[str, ...],
    every: int,
    list_faults: bool,
    plan: bool,
    file: Path | None,
    shrink: bool,
    name: str,
    keep: bool,
    output: str,
) -> None:
    """Bring a lab up, inject faults drawn from a seed, and measure the effect.

    Probes test every path that should work. A lost probe is charged to the active fault and compared with
    what that fault may cost. Routers, kernels and leases are checked meanwhile, and leftovers at the end.

    Exit codes: 0 every guarantee held, 1 one was broken or the lab failed, 2 wrong usage, 130 interrupted
    (faults are undone and the lab is removed).

    Examples: l3net lab chaos --seed 7 --minutes 5

    l3net lab chaos --faults agent-killed,links --plan > mine.yaml; l3net lab chaos --schedule mine.yaml
    """
    if list_faults:
        _list(output)
        return
    kind = RouterKind(router_kind) if router_kind else None
    source = read_source(topology, kind)
    wanted = chosen(faults, without)
    left_out = {fault.name: why for fault in wanted if (why := fault.missing())}
    if file is not None:
        _nothing_to_draw()
        schedule = _read(file)
        if schedule.topology is not None and topology is None:
            source = _source(schedule, file, kind)
        _check(schedule, source)
    else:
        usable = [fault for fault in wanted if fault.name not in left_out]
        schedule = drawn(seed, minutes * 60, usable, source.topology(), at_once=at_once)
    schedule = replace(schedule, topology=_document(source))
    if plan:
        _print_plan(schedule, output)
        return
    lab_directory(name)  # before anything else is said of it
    need_root()
    _end_as_interrupted()
    report = attempt(name, source, schedule, left_out, keep=keep, every=every / 1000)
    with redirect_stdout(sys.stderr) if shrink else nullcontext():  # the schedule alone is printed
        _print(report, output)
    if report.ok:
        return
    if shrink:
        _shrink(name, source, schedule, every / 1000)
    raise SystemExit(1)


def _print_plan(schedule: Schedule, output: str) -> None:
    """As YAML with a line a step, which `--schedule` reads as it does JSON."""
    text = written(schedule)
    if output == "json":
        print_value(yaml.safe_load(text), output)
    else:
        click.echo(text, nl=False)


#: What ends a run as Ctrl-C does: also a terminal that goes away, or its Ctrl-backslash.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def _end_as_interrupted() -> None:
    """What is ignored stays so: nohup(1) and `&` of a script mean it."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def attempt(
    name: str,
    source: TopologySource,
    schedule: Schedule,
    left_out: dict[str, str],
    *,
    keep: bool = False,
    every: float = EVERY,
) -> Report:
    """One run on a lab of its own. `every`: seconds between probes of a path."""
    start = time.monotonic()

    def say(what: str) -> None:
        click.secho(f"{time.monotonic() - start:6.1f} s  ", fg="cyan", nl=False, err=True)
        click.echo(what, err=True)

    def try_to_say(what: str) -> None:
        with suppress(OSError):  # nobody listens any more: no reason to leave a fault or a lab as it is
            say(what)

    try:
        lab = bring_up(name, source, try_to_say)
        return run(lab, schedule, try_to_say, left_out, every)
    except LabExistsError:
        keep = True  # it is somebody else's
        raise
    finally:
        if not keep:
            with _undisturbed():
                take_down(name)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Whoever is impatient and interrupts once more would leave half a lab."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing_to_draw() -> None:
    """Raises click.UsageError if it is said how to draw, although there is a schedule."""
    context = click.get_current_context()
    for name in _DRAWING:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} cannot be combined with --schedule, which draws nothing"
            )


def _shrink(name: str, source: TopologySource, schedule: Schedule, every: float) -> None:
    def fails(shorter: Schedule) -> bool:
        click.echo(f"trying with {len(shorter.steps)} steps, {shorter.seconds:g} s", err=True)
        return not attempt(name, source, shorter, {}, every=every).ok

    click.echo(written(shrunk(schedule, fails)), nl=False)


def _read(file: Path) -> Schedule:
    text = read_text(file, lambda where, why: ConfigError(f"{where}: {why}"))
    return parsed(text, str(file), FAULTS)


def _source(schedule: Schedule, file: Path, kind: RouterKind | None = None) -> TopologySource:
    """The topology in a schedule file, as text that the lab's files keep."""
    return TopologySource(yaml.safe_dump(schedule.topology, sort_keys=False), str(file), kind)


def _document(source: TopologySource) -> dict[str, object]:
    """What a schedule is kept with, so that it means the same later. Raises TopologyError."""
    source.topology()
    document: dict[str, object] = yaml.safe_load(source.text)
    routers = document.get("routers")
    if source.router_kind is not None and isinstance(routers, list):
        document["routers"] = [{**router, "kind": source.router_kind.value} for router in routers]
    return document


def _check(schedule: Schedule, source: TopologySource) -> None:
    """Every target is there, and every fault can be done here. Raises ConfigError."""
    topology = source.topology()
    for index, step in enumerate(schedule.steps):
        fault = FAULTS[step.fault]
        if step.target not in fault.targets(topology):
            there = ", ".join(fault.targets(topology)) or "none"
            raise ConfigError(f"steps[{index}]: {step.target!r} is not a target of {step.fault}: {there}")
        if why := fault.missing():
            raise ConfigError(f"steps[{index}]: {step.fault}: {why}")


def _list(output: str) -> None:
    rows = [(fault.name, fault.family, _sentence(fault)) for fault in FAULTS.values()]
    if output == "table":
        print_table("", ["FAULT", "FAMILY", "WHAT IT DOES"], rows)
        return
    print_value([{"fault": name, "family": family, "what": what} for name, family, what in rows], output)


def _sentence(fault: Fault) -> str:
    why = fault.missing()
    return f"{fault.what} Not here: {why}." if why else fault.what


def _print(report: Report, output: str) -> None:
    shown = plain(report)
    if output != "table":
        print_value(shown, output)
        return
    print_table(
        f"Seed {report.seed}, {report.seconds:.0f} s, {report.paths} paths:"
        f" {report.lost} of {report.sent} probes lost",
        ["FAULT", "TIMES", "LOST, WORST", "LOST, ALL", "CONVERGED, WORST"],
        [
            (
                row["fault"],
                row["times"],
                row["lostWorst"],
                row["lostTotal"],
                f"{row['convergedWorstSeconds']} s",
            )
            for row in shown["faults"]
        ],
    )
    for name, why in report.left_out.items():
        click.echo(f"not done: {name}: {why}")
    if report.slowness >= _BUSY:
        click.echo(
            f"the machine was {report.slowness:.1f} times as slow as an idle one, and what is allowed lasted"
            " as much longer: on a quiet one more would be found"
        )
    if report.ok:
        click.echo("every promise held")
        return
    many = len(report.failures)
    click.echo(f"{many} {'promise' if many == 1 else 'promises'} broken:")
    for failure in report.failures:
        click.echo(f"  {failure.at:7.1f} s  {failure.what}")
        if failure.causes:
            click.echo(f"             under way: {', '.join(failure.causes)}")
