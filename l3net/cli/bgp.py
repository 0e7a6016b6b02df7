"""`l3net bgp`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from l3net.cli import options
from l3net.cli.output import duration, output_option, print_table, print_value
from l3net.errors import ConfigError
from l3net.naming import AGENT_SOCKET
from l3net.shell.sockets.agentsocket import ask

_run_dir = options.run_dir()


@click.group(short_help="Look into BGP on this node, and plan changes.")
def bgp() -> None:
    """What peers announced and what was made of it; what they hear; what a change would do."""


@bgp.command()
@click.option("--peer", metavar="ADDRESS|NAME", help="Only the routes of this peer.")
@click.option("--refused", is_flag=True, help="Only the routes that are not used.")
@_run_dir
@output_option
def routes(peer: str | None, refused: bool, run_dir: Path, output: str) -> None:
    """Every route learned from a peer, used or refused, and why."""
    found = [
        row
        for row in ask(run_dir / AGENT_SOCKET, "routes")["routes"]
        if _meant(peer, row["peer"], row["name"]) and not (refused and row["verdict"] == "accepted")
    ]
    if output != "table":
        print_value(found, output)
        return
    print_table(
        "",
        ["PREFIX", "PEER", "NEXT HOP", "AS PATH", "LOCAL PREF", "MED", "COMMUNITIES", "VERDICT"],
        [
            (
                row["prefix"],
                row["name"],
                row["nextHop"],
                " ".join(map(str, row["asPath"])),
                "" if row["localPreference"] is None else row["localPreference"],
                "" if row["med"] is None else row["med"],
                " ".join(row["communities"]),
                f"{row['verdict']} (stale)" if row["stale"] else row["verdict"],
            )
            for row in found
        ],
    )


@bgp.command()
@click.argument("peer", metavar="[ADDRESS|NAME]", required=False)
@_run_dir
@output_option
def neighbor(peer: str | None, run_dir: Path, output: str) -> None:
    """Each peer in full: what both sides agreed on, what waits to be sent, and how its session last ended.

    Exits with 2 if there is no such peer.
    """
    found = [
        row
        for row in ask(run_dir / AGENT_SOCKET, "status")["peers"]
        if _meant(peer, row["address"], row["name"])
    ]
    if peer is not None and not found:
        raise ConfigError(f"no peer {peer} on this node; `l3net status` lists them")
    if output != "table":
        print_value(found, output)
        return
    if any("negotiated" not in row for row in found):
        raise ConfigError(
            "the agent that runs is older than this command; `l3net status` shows what it tells"
        )
    click.echo("\n\n".join("\n".join(_neighbor_lines(row)) for row in found))


@bgp.command()
@click.option("--peer", metavar="ADDRESS|NAME", help="Only what this peer hears.")
@click.option("--prefix", metavar="PREFIX", help="Only this prefix or address.")
@click.option("--refused", is_flag=True, help="Only what is not announced.")
@_run_dir
@output_option
def announced(peer: str | None, prefix: str | None, refused: bool, run_dir: Path, output: str) -> None:
    """Every prefix of this node's for every peer: announced, or why not.

    Blocks, networks, and each address of each service; what a router passes on is not among them.
    """
    found = [
        row
        for row in ask(run_dir / AGENT_SOCKET, "exports")["routes"]
        if _meant(peer, row["peer"], row["name"])
        and prefix in (None, row["prefix"], row["prefix"].rpartition("/")[0])
        and not (refused and row["verdict"] == "announced")
    ]
    if output != "table":
        print_value(found, output)
        return
    columns = ("prefix", "kind", "service", "name", "peer")
    print_table(
        "",
        ["PREFIX", "KIND", "SERVICE", "PEER", "ADDRESS", "COMMUNITIES", "VERDICT"],
        [[*(row[each] for each in columns), " ".join(row["communities"]), row["verdict"]] for row in found],
    )


@bgp.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--fail-on-reset", is_flag=True, help="Exit with 1 if a session would be reset or removed, for scripts."
)
@_run_dir
@output_option
def plan(directory: Path, fail_on_reset: bool, run_dir: Path, output: str) -> None:
    """What the manifests in DIRECTORY would change on this node, were they the declared state.

    Nothing is changed. For each session: added, removed, reset (closed and opened again), soft (routes
    announced or judged again on the session as it is), live (in the agent alone) or unchanged; the fields
    that differ; the prefixes the peer would newly hear (+) or no longer hear (-); and those learned
    from it that would get another verdict, with that verdict.
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


def _meant(peer: str | None, address: str, name: str) -> bool:
    """Whether a peer is the one that was asked for: by name, or by its address in any spelling."""
    if peer in (None, address, name):
        return True
    try:
        return str(ip_address(peer or "")) == address
    except ValueError:
        return False


def _neighbor_lines(row: dict[str, Any]) -> list[str]:
    """One peer, for people."""
    since = f" for {duration(row['sinceSeconds'])}" if row["state"] != "refused" else ""
    why = f": {row['reason']}" if row["reason"] else ""
    lines = [f"{row['name']} ({row['address']}): {row['state']}{since}{why}"]

    def say(title: str, text: object) -> None:
        lines.append(f"  {title + ':':<18} {text}")

    if row["state"] == "refused":
        return lines
    say("session", f"{row['type']}, AS {row['asNumber'] or 'any'}, from {row['localAddress']}{_guards(row)}")
    if agreed := row["negotiated"]:
        say("router ID", agreed["routerID"])
        say("families", ", ".join(agreed["families"]) or "none")
        say("hold time", f"{agreed['holdTime']} s, a KEEPALIVE every {agreed['keepaliveTime']} s")
        say("peer offers", ", ".join(agreed["capabilities"]) or "no capabilities")
        say("graceful restart", _restart(agreed["gracefulRestart"]))
    say("routes in", f"{row['received']} received, {row['accepted']} accepted, {row['stale']} stale")
    stuck = f", nothing taken for {row['stuckSeconds']:.0f} s" if row["stuckSeconds"] >= 1 else ""
    say("prefixes out", f"{row['announced']} sent, {row['outQueue']} queued{stuck}")
    if row["syncing"]:
        say("not all said yet", ", ".join(row["syncing"]))
    if row["unansweredRefresh"]:
        say("refresh", f"no answer to the ROUTE-REFRESH for {', '.join(row['unansweredRefresh'])}")
    if reset := row["lastReset"]:
        say("last reset", f"{duration(reset['sinceSeconds'])} ago, {reset['reason']}")
    if attempt := row["lastAttempt"]:
        side = "dialling" if attempt["direction"] == "out" else "the peer dialled in"
        say("last attempt", f"{duration(attempt['sinceSeconds'])} ago, {side}: {attempt['error']}")
    say("flaps", row["flaps"])
    if row["bfd"]:
        say("BFD", row["bfd"]["state"])
    return lines


def _guards(row: dict[str, Any]) -> str:
    named = {"password": "TCP MD5", "gtsm": "GTSM", "passive": "passive"}
    return "".join(f", {name}" for key, name in named.items() if row[key])


def _restart(offered: dict[str, Any] | None) -> str:
    if offered is None:
        return "not offered: nothing is kept when the session ends"
    if not offered["families"]:
        return "offered as a helper alone: nothing is kept when the session ends"
    return f"{', '.join(offered['kept']) or 'nothing'} kept for {offered['restartTime']} s"
