"""How commands print: a table for people, JSON or YAML for programs; colour only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

#: Columns of a table that is piped: nothing that a program looks for is folded.
_WIDEST = 5000
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
        click.echo(json.dumps(value, indent=2, default=str))
        return
    import yaml  # noqa: PLC0415 - only this branch needs it

    click.echo(yaml.safe_dump(value, sort_keys=False, default_flow_style=False), nl=False)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as the terminal; when piped, as wide as its content."""
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms that agent and plugin must not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # as it is: a bracket in it is no markup
    console = Console() if sys.stdout.isatty() else Console(width=_WIDEST, no_color=True, highlight=False)
    console.print(table)


def duration(seconds: float) -> str:
    """`2h05m`, `1m07s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
