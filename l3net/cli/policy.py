"""`l3net policy`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from l3net.cli import options
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.policydir import directory_view
from l3net.cli.values import known, of_words
from l3net.errors import ConfigError, NotRunningError
from l3net.naming import AGENT_SOCKET
from l3net.shell.sockets.agentsocket import ask

_run_dir = options.run_dir()
_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Judge the manifests of a directory, without any agent.",
)
_port = click.option(
    "--port", metavar="NUMBER/PROTOCOL", help="Destination port, such as 53/udp, 9000/sctp or icmp."
)
_COLUMNS = ("KIND", "NAME", "TIER", "PRIORITY", "FOR", "INGRESS", "EGRESS")
#: Seconds between questions of `drops --follow`, and for an answer.
_AGAIN = 0.5
_PATIENCE = 30.0


@click.group(short_help="See network policies, and whom they let through.")
def policy() -> None:
    """Which network policies are in force, whom they let reach whom and why, and what they drop."""


@policy.command(name="list")
@_directory
@_run_dir
@output_option
def list_policies(directory: Path | None, run_dir: Path, output: str) -> None:
    """All policies that are in force, in the order in which they are asked.

    NetworkPolicies, ClusterNetworkPolicies, and those that labels of tenants stand for. PODS HERE are the
    pods of this node that a policy is for; with --dir, all pods. INGRESS and EGRESS are numbers of rules, `-`
    where a policy says nothing of that direction.
    """
    answer = _asked("list", {}, directory, run_dir)
    if output != "table":
        print_value(answer["policies"], output)
    else:
        print_table(
            "",
            [*_COLUMNS[:5], "PODS" if directory else "PODS HERE", *_COLUMNS[5:]],
            [
                (
                    "tenant" if row["derived"] else row["kind"],
                    _name(row),
                    row["tier"],
                    "" if row["priority"] is None else row["priority"],
                    row["subject"],
                    len(row["pods"]),
                    *("-" if row[each] is None else row[each] for each in ("ingress", "egress")),
                )
                for row in answer["policies"]
            ],
        )
    _tell_refused(answer)


@policy.command()
@click.argument(
    "words",
    metavar="[KIND] NAMESPACE/NAME",
    nargs=-1,
    required=True,
    shell_complete=of_words(lambda _before: ("policies",), "NetworkPolicy", "ClusterNetworkPolicy"),
)
@_directory
@_run_dir
@output_option
def show(words: tuple[str, ...], directory: Path | None, run_dir: Path, output: str) -> None:
    """One policy: whom it is for, its rules in words, and what it has let through and denied on this node.

    A ClusterNetworkPolicy has no namespace. KIND (NetworkPolicy, ClusterNetworkPolicy) is needed only where a
    name alone may be several. `-o yaml` prints its manifest, also that of a policy that a tenant's label
    stands for. Packets counted are those that begin a connection.
    """
    if len(words) > 2:
        raise click.UsageError("say [KIND] NAMESPACE/NAME")
    asked = {"name": words[-1], "kind": words[0] if len(words) == 2 else ""}
    answer = _asked("show", asked, directory, run_dir)
    if output == "yaml":
        print_value(answer["manifest"], output)
    elif output == "json":
        print_value(answer, output)
    else:
        click.echo("\n".join(_policy_lines(answer)))
    _tell_refused(answer)


@policy.command()
@click.argument("source", shell_complete=known("pods", "addresses"))
@click.argument("destination", shell_complete=known("pods", "services", "addresses", "service-addresses"))
@_port
@_directory
@_run_dir
@output_option
@click.pass_context
def test(
    context: click.Context,
    source: str,
    destination: str,
    port: str | None,
    directory: Path | None,
    run_dir: Path,
    output: str,
) -> None:
    """Whether SOURCE may begin a connection to DESTINATION, and which rule or default says so.

    Each is a pod or service (NAMESPACE/NAME, or pod/NAMESPACE/NAME where it may be both) or an address. Of
    a service each endpoint is told, by the service's port. Without --port it is 80/tcp, for a service each of
    its ports. The node of the source pod judges egress, that of the destination pod ingress. Nothing is sent.

    Exits with 0 if all is allowed, with 1 if anything is denied, with 2 if it cannot be told: also where
    policies are not in force as declared, or of a directory some cannot be used.
    """
    asked = {"source": source, "destination": destination, "port": port or ""}
    answer = _asked("test", asked, directory, run_dir)
    if output == "table":
        click.echo("\n".join(_test_lines(answer)))
    else:
        print_value(answer, output)
    _tell_refused(answer)
    if answer.get("refused"):
        context.exit(2)
    context.exit(0 if answer["allowed"] else 1)


@policy.command()
@click.argument("namespace", shell_complete=known("namespaces"))
@_port
@_directory
@_run_dir
@output_option
def matrix(namespace: str, port: str | None, directory: Path | None, run_dir: Path, output: str) -> None:
    """Who reaches the pods of NAMESPACE on a port (80/tcp unless --port): its own, others', the outside.

    A row is who calls, a column who is called. Pods that are judged alike share a row and a column. `some`:
    not all of the row reach all of the column, or not from every address outside. Families are told apart
    where they differ.
    """
    answer = _asked("matrix", {"namespace": namespace, "port": port or ""}, directory, run_dir)
    if output != "table":
        print_value(answer, output)
        return
    columns = [f"TO {column['name']}" for column in answer["columns"]]
    print_table(
        f"namespace {answer['namespace']}, port {answer['port']}",
        ["FROM", *columns],
        [(_from(row), *map(_cell, row["to"])) for row in answer["rows"]],
    )
    _tell_notes(answer["notes"])


@policy.command()
@click.option("--follow", "-f", is_flag=True, help="Go on and show each as it happens, until interrupted.")
@_run_dir
@output_option
def drops(follow: bool, run_dir: Path, output: str) -> None:
    """The last packets that policies dropped on this node, and which policy or rule did it.

    Of policies with the annotation `l3net.io/log-drops: "true"`, ten a second of each at most; the agent
    keeps the last 1000, and writes them to its log. With --follow, JSON is one line a packet.
    """
    answer = _asked("drops", {}, None, run_dir)
    if not answer["logging"]:
        click.echo(
            'no policy has the annotation l3net.io/log-drops: "true", so that none is told of', err=True
        )
    _tell_notes(filter(None, [answer["problem"]]))
    if not follow:
        if output == "table":
            click.echo("".join(f"{drop_line(row)}\n" for row in answer["drops"]), nl=False)
        else:
            print_value(answer["drops"], output)
        return
    after = 0
    while True:
        for row in answer["drops"]:
            click.echo(drop_line(row) if output == "table" else _line(row, output))
            after = row["serial"]
        time.sleep(_AGAIN)
        answer = _asked("drops", {"after": str(after)}, None, run_dir)
        if answer["seen"] < after:  # another agent by now, which counts anew
            after = 0


def _line(row: dict[str, Any], output: str) -> str:
    if output == "json":
        return json.dumps(row)
    import yaml  # noqa: PLC0415 - only this branch needs it

    return str(yaml.safe_dump(row, sort_keys=False, explicit_start=True)).rstrip()


# --- asking ----------------------------------------------------------------------------------------------


def _asked(word: str, asked: dict[str, str], directory: Path | None, run_dir: Path) -> dict[str, Any]:
    """The answer of the agent, or of a directory. Raises ConfigError, NotRunningError."""
    if directory is not None:
        return directory_view(directory, word, asked)
    answer = ask(run_dir / AGENT_SOCKET, f"policy {word} {json.dumps(asked)}", _PATIENCE)
    if "error" in answer:
        if answer["error"].startswith("ask for: alive"):
            raise NotRunningError("the agent that runs is older than this command")
        raise ConfigError(answer["error"])
    return answer


# --- for people ------------------------------------------------------------------------------------------


def _name(row: dict[str, Any]) -> str:
    return f"{row['namespace']}/{row['name']}" if row["namespace"] else str(row["name"])


def _tell_refused(answer: dict[str, Any]) -> None:
    if answer.get("refused"):
        click.echo(f"problem: policies are not in force as declared: {answer['refused']}", err=True)


def _tell_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _policy_lines(row: dict[str, Any]) -> list[str]:
    order = row["tier"] if row["priority"] is None else f"{row['tier']} tier, priority {row['priority']}"
    lines = [f"{row['kind']} {_name(row)} ({order})", f"  for: {row['subject']}"]
    if row["derived"]:
        lines.append("  declared: by the label l3net.io/tenant of a namespace")
    pods = row["pods"]
    shown = ", ".join(pods[:20]) + (f" and {len(pods) - 20} more" if len(pods) > 20 else "")
    lines.append(f"  {'pods here' if row['packets'] is not None else 'pods'}: {shown or 'none'}")
    for direction in ("ingress", "egress"):
        if row[direction] is None:
            continue
        lines.append(f"  {direction}:")
        texts = row["rules"][direction]
        if row[direction]:
            lines += [f"    {place}. {text}" for place, text in enumerate(texts)]
        else:
            lines += [f"    {text}" for text in texts]
    if row["logsDrops"]:
        lines.append("  what it denies is told: `l3net policy drops`")
    lines += [
        f"  {each['direction']}, {'accepted' if each['action'] == 'accept' else 'denied'} by its rules: "
        f"{_packets(each['packets'])}"
        for each in row["packets"] or ()
    ]
    lines += [
        f"  {each['direction']}, accepted by no rule of {', '.join(each['policies'])}: "
        f"{_packets(each['packets'])}"
        for each in row.get("notAccepted", ())
    ]
    return lines


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"


def _test_lines(answer: dict[str, Any]) -> list[str]:
    connections = answer["connections"]
    denied = sum(1 for each in connections if not each["allowed"])
    first = "allowed" if answer["allowed"] else "denied"
    if 0 < denied < len(connections):
        first = f"denied: {denied} of {len(connections)}"
    ports = dict.fromkeys(each["port"] for each in connections)
    lines = [f"{first}: {answer['source']} -> {answer['destination']} on {', '.join(ports)}"]
    for each in connections:
        ends = [_end(each[end]) for end in ("source", "destination")]
        via = f", by {each['destination']['service']}" if each["destination"]["service"] else ""
        verdict = "allowed" if each["allowed"] else "denied"
        lines.append(f"{ends[0]} -> {ends[1]} {each['port']}{via}: {verdict}")
        if each["because"]:
            lines.append(f"  {each['because']}")
        for decision in each["decisions"]:
            where = f"node {decision['node']}" if decision["node"] else "the pod's node"
            lines.append(f"  {where}: {decision['text']}")
    return [*lines, *(f"note: {note}" for note in answer["notes"])]


def _end(end: dict[str, Any]) -> str:
    name, address = end["name"], end["address"]
    return str(name) if str(name).startswith(str(address)) else f"{name} ({address})"


def _from(row: dict[str, Any]) -> str:
    return f"{row['from']} ({row['pods']})" if row["from"].startswith("namespace ") else str(row["from"])


def _cell(cell: dict[str, str]) -> str:
    told = set(cell.values())
    return next(iter(told)) if len(told) == 1 else ", ".join(f"{key} {value}" for key, value in cell.items())


def drop_line(row: dict[str, Any]) -> str:
    """A dropped packet, for people."""
    when = datetime.fromtimestamp(row["time"]).astimezone().isoformat(timespec="milliseconds")
    ends = " -> ".join(_socket(row[end]) for end in ("source", "destination"))
    return f"{when} {row['direction'] or '-'} {ends} {row['protocol']}: {row['reason']}"


def _socket(end: dict[str, Any]) -> str:
    address = f"[{end['address']}]" if ":" in end["address"] and end["port"] else end["address"]
    text = f"{address}:{end['port']}" if end["port"] else address
    return f"{end['name']} ({text})" if end["name"] else str(text)
