"""`l3net bgp`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from l3net.addresses import parse_address, parse_prefix
from l3net.bgp.verdict import Export
from l3net.cli import options
from l3net.cli.bgp_dump import dump
from l3net.cli.bgp_neighbors import meant, neighbor, neighbors, summary
from l3net.cli.bgp_routes import PATIENCE, routes
from l3net.cli.nodes import Agents, agents_option
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.renamed import old_flag
from l3net.cli.unknown import refuse_unknown
from l3net.cli.values import known
from l3net.cli.waiting import ask
from l3net.errors import ConfigError
from l3net.naming import AGENT_SOCKET

_run_dir = options.run_dir()
#: Of an announcement, before its communities.
_SHOWN = ("prefix", "kind", "service", "name", "peer")
#: Verdicts on what that session is not there for.
_NEVER = frozenset({Export.MESH_PEER.value, Export.FAMILY_NOT_NEGOTIATED.value})


def _written_so(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A prefix or an address as the agent writes it."""
    try:
        if value is None:
            return None
        return str(parse_prefix(value) if "/" in value else parse_address(value))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a prefix (such as 10.244.1.0/24) nor an address"
        ) from None


@click.group(short_help="Show BGP on this node, and plan changes.")
def bgp() -> None:
    """Show routes received from peers, routes announced to them, and the effect of a change."""


for _command in (summary, neighbors, neighbor, routes, dump):
    bgp.add_command(_command)


@bgp.command()
@click.option(
    "--peer", metavar="ADDRESS|NAME", help="Only announcements to this peer.", shell_complete=known("peers")
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    help="Only this prefix or address.",
    shell_complete=known("prefixes"),
    callback=_written_so,
)
@click.option("--rejected", is_flag=True, help="Only prefixes that are not announced.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also show what a session does not carry by design: meshPeer and familyNotNegotiated. "
    "--prefix and --rejected show these too.",
)
@old_flag("--refused", "--rejected")
@agents_option
@output_option
def announced(
    peer: str | None, prefix: str | None, rejected: bool, everything: bool, agents: Agents, output: str
) -> None:
    """Show every prefix of this node for every peer: announced, or why not.

    Lists blocks, networks, and each address of each service. Routes that a router (`transit`) passes on
    are not listed.
    """
    everything = everything or rejected or prefix is not None

    def chosen(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            row
            for row in answer["routes"]
            if meant(peer, row["peer"], row["name"])
            and prefix in (None, row["prefix"], row["prefix"].rpartition("/")[0])
            and not (rejected and row["verdict"] == "announced")
            and (everything or row["verdict"] not in _NEVER)
        ]

    found = agents.each("exports", chosen, PATIENCE)
    if peer is not None and not any(rows for _, rows in found):
        refuse_unknown(agents, "peer", peer, ["peers"])
    if output != "table":
        agents.print(found, output)
        return
    agents.table(
        ("PREFIX", "KIND", "SERVICE", "PEER", "ADDRESS", "COMMUNITIES", "VERDICT"),
        found,
        lambda rows: (
            [*(row[each] for each in _SHOWN), " ".join(row["communities"]), row["verdict"]] for row in rows
        ),
        spare=("ADDRESS", "KIND"),
    )


@bgp.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--fail-on-reset", is_flag=True, help="Exit with 1 if a session would be reset or removed, for scripts."
)
@_run_dir
@output_option
def plan(directory: Path, fail_on_reset: bool, run_dir: Path, output: str) -> None:
    """Show what the manifests in DIRECTORY would change on this node if they were the declared state.

    It changes nothing. For each session it shows: added, removed, reset (closed and opened again), soft
    (routes are announced or evaluated again over the existing session), live (changes the agent only) or
    unchanged; the fields that differ; the prefixes that the peer would newly get (+) or lose (-); and
    learned prefixes that would get another verdict, with that verdict.
    """
    answer = ask(run_dir / AGENT_SOCKET, f"plan {directory.resolve()}")
    if "error" in answer:
        raise ConfigError(answer["error"])
    if output == "table":
        print_table(
            "",
            ["PEER", "ADDRESS", "ACTION", "FIELDS", "ROUTES", "LEARNED"],
            [
                (
                    row["name"],
                    row["peer"],
                    row["action"],
                    ", ".join(row["fields"]),
                    _routes(row),
                    " ".join(f"{each['prefix']}:{each['after']}" for each in row["learned"]),
                )
                for row in answer["sessions"]
            ],
        )
        for problem in answer["problems"]:
            click.echo(f"problem: {problem}", err=True)
    else:
        print_value(answer, output)
    if fail_on_reset and any(row["action"] in ("reset", "removed") for row in answer["sessions"]):
        raise SystemExit(1)


def _routes(row: dict[str, Any]) -> str:
    return " ".join(
        [*(f"+{prefix}" for prefix in row["announce"]), *(f"-{prefix}" for prefix in row["withdraw"])]
    )
