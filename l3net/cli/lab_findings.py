"""How the findings of `l3net lab check` are told: one line a check and family, and every failure in full."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from l3net.lab.checks import Check, CheckResult


def print_findings(checks: Sequence[Check], findings: Sequence[CheckResult]) -> None:
    """A table of checks, then what was expected and seen where they differ."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("CHECK", "left"),
        ("", "left"),
        ("IPv4", "left"),
        ("IPv6", "left"),
        ("SECONDS", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for check in checks:
        mine = [finding for finding in findings if finding.check == check.name]
        seconds = sum(finding.seconds for finding in mine)
        table.add_row(check.name, check.title, _cell(mine, 4), _cell(mine, 6), f"{seconds:.1f}")
    terminal = sys.stdout.isatty()
    console = Console() if terminal else Console(width=160, no_color=True, highlight=False)
    console.print(table)
    failed = [finding for finding in findings if not finding.ok]
    for finding in failed:
        family = f" (IPv{finding.family})" if finding.family else ""
        click.secho(f"\n{finding.check}: {finding.what}{family}", fg="red" if terminal else None)
        click.echo(f"  expected: {finding.expected}\n  seen:     {finding.seen}")
    verdict = (
        f"{len(failed)} of {len(findings)} results failed"
        if failed
        else f"all {len(findings)} results are ok"
    )
    both = sum(1 for finding in findings if finding.family is None)
    if both:  # in the table they are in both columns
        verdict += f" ({both} for both families at once)"
    click.secho(f"\n{verdict}", fg=("red" if failed else "green") if terminal else None, bold=terminal)


def _cell(findings: Sequence[CheckResult], version: int) -> Text:
    mine = [finding for finding in findings if finding.family in (version, None)]
    if not mine:
        return Text("-")
    failed = sum(1 for finding in mine if not finding.ok)
    if failed:
        return Text(f"{failed} of {len(mine)} FAILED", style="red")
    return Text(f"ok ({len(mine)})", style="green")
