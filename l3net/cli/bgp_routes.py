"""`l3net bgp routes`: what peers say and hear, filtered in the agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from l3net.bgp.path_filter import PathFilter
from l3net.cli import options
from l3net.cli.output import Progress, output_option, print_table, print_value
from l3net.cli.renamed import old_flag
from l3net.cli.values import known
from l3net.errors import ConfigError
from l3net.naming import AGENT_SOCKET
from l3net.shell.sockets.agentsocket import ask

#: Seconds between the parts of an answer: the agent may look at 200,000 paths before it has one to tell.
PATIENCE = 30.0


@click.command()
@click.argument("prefix", metavar="[PREFIX|ADDRESS]", required=False, shell_complete=known("prefixes"))
@click.option(
    "--peer", metavar="ADDRESS|NAME", help="Only the routes of this peer.", shell_complete=known("peers")
)
@click.option(
    "--received",
    is_flag=True,
    help="What peers have announced, used or not. This is what it shows unless told.",
)
@click.option("--rejected", is_flag=True, help="Only routes that are not used, each with the reason.")
@click.option("--best", is_flag=True, help="Only the paths in use: the best to each prefix, with its equals.")
@click.option(
    "--advertised", is_flag=True, help="What peers hear of this node, with the attributes as they read them."
)
@click.option("--longer", is_flag=True, help="With a PREFIX: what lies inside it as well.")
@click.option(
    "--community",
    metavar="COMMUNITY",
    multiple=True,
    help="Only routes with this community, such as 65001:100, 65001:1:2, rt:65001:7 or no-export; with all"
    " of them, if several are named.",
)
@click.option(
    "--as-path",
    metavar="AS|PATTERN",
    help="Only routes with this AS in their path, or whose path fits a pattern as routers take it, such as"
    " '^65001_' or '_(65002|65003)$'.",
)
@old_flag("--refused", "--rejected")
@options.run_dir()
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
    run_dir: Path,
    output: str,
) -> None:
    """The routes that peers have announced, and what became of each: in use (`>`), spare, or refused and why.

    With a PREFIX that prefix alone; with an ADDRESS the longest prefix that holds it and passes the other
    options. Attributes are those after the import policy.
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
    found = ask_routes(run_dir, asked)
    if output != "table":
        print_value(found, output)
    elif advertised:
        _print_advertised(found)
    else:
        _print_received(found, rejected)


def ask_routes(run_dir: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows. Raises ConfigError for what the agent refuses to answer, NotRunningError."""
    progress = Progress("routes", "MiB")
    question = f"routes {json.dumps(asked)}" if asked else "routes"
    answer = ask(run_dir / AGENT_SOCKET, question, PATIENCE, lambda octets: progress(octets / (1 << 20)))
    progress.done()
    if "routes" not in answer:
        raise ConfigError(answer.get("error") or "the agent that runs is older than this command")
    found: list[dict[str, Any]] = answer["routes"]
    return found


def _print_received(found: list[dict[str, Any]], rejected: bool) -> None:
    if found and "best" not in found[0]:
        raise ConfigError("the agent that runs is older than this command; -o json shows what it tells")
    print_table(
        "",
        [
            *("", "PREFIX", "PEER", "NEXT HOP", "LOCAL PREF", "MED", "AS PATH", "COMMUNITIES", "VERDICT"),
            *(["REASON"] if rejected else []),
        ],
        [
            (
                ">" if row["best"] else "",
                *_path(row),
                f"{row['verdict']} (stale)" if row["stale"] else row["verdict"],
                *([row["reason"]] if rejected else []),
            )
            for row in found
        ],
    )


def _print_advertised(found: list[dict[str, Any]]) -> None:
    print_table(
        "",
        ["PREFIX", "PEER", "NEXT HOP", "LOCAL PREF", "MED", "AS PATH", "COMMUNITIES", "STATE"],
        [(*_path(row), row["state"]) for row in found],
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
