"""How commands print: a table for people, JSON or YAML for programs; colour only on a terminal."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import click

from l3net.cli.columns import GAP, cut, fit

#: Where a command's context keeps that all of a table is to be printed.
_WIDE = "l3net.wide"
#: Where it keeps that the reader has been told of `-o wide`.
_TOLD = "l3net.told"
#: Seconds after which a command tells how far it has come.
PATIENCE = 2.0
FORMATS = ("table", "wide", "json", "yaml")


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The `-o` option, passed as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        callback=_chosen,
        help="Output format: a table cut to the terminal's width, a `wide` table with everything,"
        " or JSON or YAML for programs.",
    )(function)


def _chosen(ctx: click.Context, _: click.Parameter, value: str) -> str:
    """`wide` is a table to all commands; how wide is between here and `print_table`."""
    ctx.meta[_WIDE] = value == "wide"
    return "table" if value == "wide" else value


def print_value(value: Any, output: str) -> None:
    """JSON or YAML on standard output."""
    if output == "json":
        click.echo(json_text(value, indent=2))
        return
    import yaml  # noqa: PLC0415 - only this branch needs it

    click.echo(yaml.safe_dump(value, sort_keys=False, default_flow_style=False), nl=False)


def json_text(value: Any, indent: int | None = None) -> str:
    """What a command tells a program: all JSON on standard output goes through here, an answer or a line at
    a time, and is as the command's schema says (l3net.cli.schemas)."""
    return json.dumps(value, indent=indent, default=str)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    text: Collection[str] = (),
) -> None:
    """A table as wide as the terminal, or as its content when piped or with `-o wide`. Where something had
    to be cut or left out (l3net.cli.columns; of this table alone `text` and `spare`), a line on standard
    error says how to see it."""
    found = [[_one_line(str(cell)) for cell in row] for row in rows]
    natural = [max(map(len, column)) for column in zip(columns, *found, strict=True)]
    terminal = sys.stdout.isatty()
    meta = _meta()
    layout = fit(columns, natural, None if meta.get(_WIDE) else _room(), spare, text)

    def line(cells: Sequence[str]) -> str:
        told = (cut(cells[each], width) for each, width in zip(layout.shown, layout.widths, strict=True))
        return (" " * GAP).join(told).rstrip()

    if title:
        click.secho(title, italic=terminal)
    click.secho(line(columns), bold=terminal)
    if found:
        click.echo("\n".join(map(line, found)))
    if not layout.whole and not meta.get(_TOLD):
        meta[_TOLD] = True
        click.secho("(not all of it fits: `-o wide` shows the rest)", dim=sys.stderr.isatty(), err=True)


def _one_line(cell: str) -> str:
    """A cell that others wrote in part: no character of it moves the cursor or ends the line."""
    return cell if cell.isprintable() else "".join(each if each.isprintable() else " " for each in cell)


def _room() -> int | None:
    """The width of the terminal in characters; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _meta() -> dict[str, Any]:
    """What the command that runs has kept; of nobody where none runs."""
    ctx = click.get_current_context(silent=True)
    return {} if ctx is None else ctx.meta


class Progress:
    """Tells on a terminal, beside what is printed, how far a long answer has come. `unit` is of `far`."""

    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._next = time.monotonic() + PATIENCE
        self._told = False

    def __call__(self, far: float) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now >= self._next:
            self._next, self._told = now + 0.5, True
            told = f"{far:.1f}" if isinstance(far, float) else str(far)
            click.echo(f"\r{self._what}: {told} {self._unit} so far", nl=False, err=True)

    def done(self) -> None:
        """Wipe the line."""
        if self._told:
            click.echo("\r\x1b[K", nl=False, err=True)


def duration(seconds: float) -> str:
    """`2h05m`, `1m07s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
