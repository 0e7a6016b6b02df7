"""`l3net bgp routes`: what peers say and hear, filtered in the agent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from l3net.bgp.path_filter import PathFilter
from l3net.cli.nodes import Agents, agents_option, checked
from l3net.cli.output import Progress, output_option
from l3net.cli.renamed import old_flag
from l3net.cli.unknown import refuse_unknown
from l3net.cli.values import known
from l3net.errors import ConfigError

#: Seconds between the parts of an answer: the agent may look at 200,000 paths before it has one to tell.
PATIENCE = 30.0

Rows = list[dict[str, Any]]


@click.command()
@click.argument("prefix", metavar="[PREFIX|ADDRESS]", required=False, shell_complete=known("prefixes"))
@click.option(
    "--peer", metavar="ADDRESS|NAME", help="Only the routes of this peer.", shell_complete=known("peers")
)
@click.option(
    "--received",
    is_flag=True,
    help="Routes that peers have announced, used or not (the default).",
)
@click.option("--rejected", is_flag=True, help="Only refused routes, each with the reason.")
@click.option("--best", is_flag=True, help="Only paths in use: the best path to each prefix, and equal ones.")
@click.option(
    "--advertised", is_flag=True, help="Routes announced to peers, with the attributes as the peers see them."
)
@click.option("--longer", is_flag=True, help="With a PREFIX: also prefixes inside it.")
@click.option(
    "--community",
    metavar="COMMUNITY",
    multiple=True,
    help="Only routes with this community, such as 65001:100, 65001:1:2, rt:65001:7 or no-export."
    " If repeated, only routes with all of them.",
)
@click.option(
    "--as-path",
    metavar="AS|PATTERN",
    help="Only routes with this AS in their path, or whose path matches a pattern as on routers, "
    "such as '^65001_' or '_(65002|65003)$'.",
)
@old_flag("--refused", "--rejected")
@agents_option
@output_option
def routes(
    prefix: str | None,
    peer: str | None,
    received: bool,
    rejected: bool,
    best: bool,
    advertised: bool,
    longer: bool,
    community: tuple[str, ...],
    as_path: str | None,
    agents: Agents,
    output: str,
) -> None:
    """Show received routes and the verdict on each: in use (`>`), accepted but not in use, or refused and
    why.

    PREFIX selects exactly that prefix; ADDRESS selects the longest matching prefix among those that pass
    the other options. Attributes are those after the import policy.
    """
    if received and advertised:
        raise ConfigError("--received and --advertised are two questions: ask one after the other")
    asked: dict[str, Any] = {
        "prefix": prefix,
        "peer": peer,
        "rejected": rejected,
        "best": best,
        "advertised": advertised,
        "longer": longer,
        "community": " ".join(community),
        "asPath": as_path,
    }
    asked = {word: value for word, value in asked.items() if value}
    PathFilter.of(asked)  # what is wrong with it is told although no agent may run
    progress = Progress("routes", "MiB")
    question = f"routes {json.dumps(asked)}" if asked else "routes"
    found = agents.each(question, rows_of, PATIENCE, lambda octets: progress(octets / (1 << 20)))
    progress.done()
    if peer is not None and not any(rows for _, rows in found):
        refuse_unknown(agents, "peer", peer, ["peers"])
    if output != "table":
        agents.print(found, output)
    elif advertised:
        _print_advertised(agents, found)
    else:
        _print_received(agents, found, rejected)


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows. Raises ConfigError for what the agent refuses to answer."""
    return list(checked(answer, "routes", "the agent that runs is older than this command")["routes"])


def _print_received(agents: Agents, found: Sequence[tuple[str, Rows]], rejected: bool) -> None:
    columns = ("", "PREFIX", "PEER", "NEXT HOP", "LOCAL PREF", "MED", "AS PATH", "COMMUNITIES", "VERDICT")

    def cells(rows: Rows) -> Iterator[list[object]]:
        if rows and "best" not in rows[0] and agents.here:
            raise ConfigError("the agent that runs is older than this command; -o json shows what it tells")
        for row in rows:
            verdict = f"{row['verdict']} (stale)" if row["stale"] else row["verdict"]
            reason = [row["reason"]] if rejected else []
            yield [">" if row["best"] else "", *_path(row), verdict, *reason]

    agents.table([*columns, *(["REASON"] if rejected else [])], found, cells, spare=("AS PATH", "NEXT HOP"))


def _print_advertised(agents: Agents, found: Sequence[tuple[str, Rows]]) -> None:
    columns = ("PREFIX", "PEER", "NEXT HOP", "LOCAL PREF", "MED", "AS PATH", "COMMUNITIES", "STATE")
    agents.table(
        columns,
        found,
        lambda rows: ([*_path(row), row["state"]] for row in rows),
        spare=("AS PATH", "NEXT HOP"),
    )


def _path(row: dict[str, Any]) -> tuple[object, ...]:
    origin = {"igp": "i", "egp": "e"}.get(row["origin"], "?")
    return (
        row["prefix"],
        row["name"],
        row["nextHop"],
        "" if row["localPreference"] is None else row["localPreference"],
        "" if row["med"] is None else row["med"],
        f"{row['asPathText']} {origin}".strip(),
        " ".join(row["communities"]),
    )
