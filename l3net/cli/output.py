"""How commands print: a table for people, JSON or YAML for programs; colour only on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

#: Columns of a table that is piped: nothing that a program looks for is folded.
_WIDEST = 5000
#: Rows beyond which a table is laid out without the terminal's width: rich takes a millisecond for each.
_PLAIN_BEYOND = 1000
#: Seconds after which a command tells how far it has come.
PATIENCE = 2.0
FORMATS = ("table", "json", "yaml")


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The `-o` option, passed as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print: a table to read, or JSON or YAML for a program.",
    )(function)


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


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as the terminal; when piped, as wide as its content."""
    found = [[str(cell) for cell in row] for row in rows]
    if len(found) > _PLAIN_BEYOND:
        _print_plain(title, columns, found)
        return
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms that agent and plugin must not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(Text(cell) for cell in row))  # as it is: a bracket in it is no markup
    console = Console() if sys.stdout.isatty() else Console(width=_WIDEST, no_color=True, highlight=False)
    console.print(table)


def _print_plain(title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    """The same, without folding."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [title] if title else []
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (list(columns), *rows)
    ]
    click.echo("\n".join(lines))


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
