"""`l3net doctor --cluster`: all agents are asked, and their findings told as one list."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from l3net.cli.asking import ask_all
from l3net.cli.bgp_routes import PATIENCE
from l3net.cli.doctor import COLOURS
from l3net.cli.doors import Door
from l3net.cli.nodes import checked
from l3net.cli.output import print_value
from l3net.doctor.cluster import Row, judge_status, together
from l3net.doctor.contradictions import contradictions, unheard, witnesses_of
from l3net.doctor.findings import Finding, Severity
from l3net.errors import L3netError

#: Nodes that are asked for all their routes, to see whose blocks are heard.
WITNESSES: Final = 16
#: Seconds for a status without routes.
SHORT: Final = 10.0
#: Names in a line for people.
_SHOWN: Final = 5


def examine(doors: Mapping[str, Door]) -> tuple[list[Row], int]:
    """The rows, and how many nodes answered."""
    statuses, failures = ask_all(doors, "brief", SHORT, _status)
    chosen = witnesses_of(statuses, WITNESSES)
    witnesses, lost = ask_all({node: doors[node] for node in chosen}, "status", PATIENCE, _whole_status)
    found: list[tuple[str, Finding]] = [
        (node, Finding("agent", node, Severity.PROBLEM, f"does not answer: {err}", _remedy(err)))
        for node, err in {**failures, **lost}.items()
    ]
    draining = frozenset(node for node, status in statuses.items() if "cause" in status["drain"])
    for node, status in statuses.items():
        try:
            found += [(node, each) for each in judge_status(witnesses.get(node, status), draining)]
        except (LookupError, TypeError, ValueError) as err:
            what = f"its status is not understood ({type(err).__name__})"
            remedy = "its agent is of another release than this command: ask with that one's"
            found.append((node, Finding("agent", node, Severity.WARNING, what, remedy)))
    found += contradictions(statuses)
    found += unheard(statuses, witnesses)
    return together(found, doors), len(statuses)


def _remedy(err: L3netError) -> str:
    if err.exit_code == 3:
        return (
            "see whether the node is up, and its l3net-agent and l3net-glass run (`kubectl get pods -o wide`)"
        )
    return "what stands there says what to do"


def _status(answer: dict[str, Any]) -> dict[str, Any]:
    """One that has what is compared. Raises ConfigError, LookupError."""
    status = checked(answer, "problems", "its agent is older than this command")
    for key in ("blocks", "services", "version", "reconciled", "peers", "drain"):
        status[key]
    for peer in status["peers"]:
        peer["name"], peer["state"], peer["localAddress"]
    return status


def _whole_status(answer: dict[str, Any]) -> dict[str, Any]:
    status = _status(answer)
    for route in status["routes"]:
        route["prefix"], route["nextHops"], route["inKernel"]
    return status


def show(rows: Sequence[Row], output: str) -> None:
    """For people a line a row with the first few nodes, for programs all of them."""
    if output != "table":
        print_value([_value(row) for row in rows], output)
        return
    colour = sys.stdout.isatty()
    for row in rows:
        word = f"{row.severity.value:8}"
        word = click.style(word, fg=COLOURS[row.severity]) if colour else word
        alike = ", alike" if row.differs else ""
        many = f"on {len(row.nodes)} nodes{alike}: " if len(row.nodes) > 1 else "on "
        own = set(row.subjects) <= set(row.nodes)
        subject = "" if own or row.severity is Severity.OK else f"{_some(row.subjects)}: "
        click.echo(f"{word} {row.check}: {subject}{row.what} [{many}{_some(row.nodes)}]")
        if row.remedy:
            click.echo(f"         -> {row.remedy}")
    counts = {severity: sum(1 for row in rows if row.severity is severity) for severity in Severity}
    click.echo(f"\nproblems: {counts[Severity.PROBLEM]}, warnings: {counts[Severity.WARNING]}")


def _value(row: Row) -> dict[str, Any]:
    return {
        "check": row.check,
        "severity": row.severity.value,
        "subjects": list(row.subjects),
        "what": row.what,
        "remedy": row.remedy,
        "nodes": list(row.nodes),
        "count": len(row.nodes),
        "differs": row.differs,
    }


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
