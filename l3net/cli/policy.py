"""`l3net policy`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from l3net.cli.nodes import Agents, agents_option, here_alone
from l3net.cli.output import json_text, output_option, print_table, print_value
from l3net.cli.policydir import directory_view
from l3net.cli.values import known, of_words
from l3net.errors import ConfigError, NotRunningError

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Evaluate the manifests of a directory, without an agent.",
)
_port = click.option(
    "--port", metavar="NUMBER/PROTOCOL", help="Destination port, such as 53/udp, 9000/sctp or icmp."
)
_COLUMNS = ("KIND", "NAME", "TIER", "PRIORITY", "FOR", "INGRESS", "EGRESS")
#: Seconds between questions of `drops --follow`, of other nodes, and for an answer.
_AGAIN = 0.5
_AGAIN_AFAR = 2.0
_PATIENCE = 30.0

Answers = list[tuple[str, dict[str, Any]]]


@click.group(short_help="Show and test network policies.")
def policy() -> None:
    """Show and test network policies, and show the packets that they drop."""


@policy.command(name="list")
@_directory
@agents_option
@output_option
def list_policies(directory: Path | None, agents: Agents, output: str) -> None:
    """List all policies in force, in the order in which they are evaluated.

    NetworkPolicies, ClusterNetworkPolicies, and the policies of tenant labels. PODS HERE is the number of
    selected pods on this node; with --dir, of all pods. INGRESS and EGRESS are numbers of rules; `-`
    means that the policy does not apply to that direction.
    """
    answers = _asked("list", {}, directory, agents)
    if output != "table":
        agents.print([(node, answer["policies"]) for node, answer in answers], output)
    else:
        pods = "PODS" if directory else "PODS HERE"
        columns = [*_COLUMNS[:5], pods, *_COLUMNS[5:]]
        agents.table(columns, answers, lambda answer: map(_cells, answer["policies"]))
    _tell_refused(answers)


@policy.command()
@click.argument(
    "words",
    metavar="[KIND] NAMESPACE/NAME",
    nargs=-1,
    required=True,
    shell_complete=of_words(lambda _before: ("policies",), "NetworkPolicy", "ClusterNetworkPolicy"),
)
@_directory
@agents_option
@output_option
def show(words: tuple[str, ...], directory: Path | None, agents: Agents, output: str) -> None:
    """Show one policy: its pods, its rules in words, and the packets that it accepted and denied on this
    node.

    A ClusterNetworkPolicy has no namespace. KIND (NetworkPolicy, ClusterNetworkPolicy) is needed only if
    the name is ambiguous. `-o yaml` prints the manifest, also for the policy of a tenant label. Only
    packets that begin a connection are counted.
    """
    if len(words) > 2:
        raise click.UsageError("say [KIND] NAMESPACE/NAME")
    asked = {"name": words[-1], "kind": words[0] if len(words) == 2 else ""}
    answers = _asked("show", asked, directory, agents)
    if output == "yaml":
        agents.print([(node, answer["manifest"]) for node, answer in answers], output)
    elif output == "json":
        agents.print(answers, output)
    else:
        _tell(agents, answers, _policy_lines)
    _tell_refused(answers)


@policy.command()
@click.argument("source", shell_complete=known("pods", "addresses"))
@click.argument("destination", shell_complete=known("pods", "services", "addresses", "service-addresses"))
@_port
@_directory
@agents_option
@output_option
@click.pass_context
def test(
    context: click.Context,
    source: str,
    destination: str,
    port: str | None,
    directory: Path | None,
    agents: Agents,
    output: str,
) -> None:
    """Test whether SOURCE may open a connection to DESTINATION, and which rule or default decides.

    Each is a pod or service (NAMESPACE/NAME, or pod/NAMESPACE/NAME if ambiguous) or an address. For a
    service each endpoint is tested, by the service's port. The default port is 80/tcp, for a service each
    of its ports. The source pod's node enforces egress, the destination pod's node ingress. Nothing is
    sent.

    Exit code 0: all is allowed; 1: something is denied; 2: it cannot decide, also if policies are not in
    force as declared, or some files of a directory are invalid.
    """
    asked = {"source": source, "destination": destination, "port": port or ""}
    answers = _asked("test", asked, directory, agents)
    if output == "table":
        _tell(agents, answers, _test_lines)
    else:
        agents.print(answers, output)
    _tell_refused(answers)
    if any(answer.get("refused") for _, answer in answers):
        context.exit(2)
    context.exit(0 if all(answer["allowed"] for _, answer in answers) else 1)


@policy.command()
@click.argument("namespace", shell_complete=known("namespaces"))
@_port
@_directory
@agents_option
@output_option
def matrix(namespace: str, port: str | None, directory: Path | None, agents: Agents, output: str) -> None:
    """Show who reaches the pods of NAMESPACE on a port (default 80/tcp): its own pods, other namespaces, the
    outside.

    Rows are sources, columns are destinations. Pods with the same result share a row and a column.
    `some`: not all of the row reach all of the column, or not from every outside address. Families are
    shown separately if they differ.
    """
    answers = _asked("matrix", {"namespace": namespace, "port": port or ""}, directory, agents)
    if output != "table":
        agents.print(answers, output)
        return
    for node, (title, columns, rows) in agents.rendered(answers, _matrix):
        print_table(agents.title(node, title), columns, rows)
    _tell_notes(dict.fromkeys(note for _, answer in answers for note in answer["notes"]))


@policy.command()
@click.option("--follow", "-f", is_flag=True, help="Continue with new packets until interrupted.")
@agents_option
@output_option
def drops(follow: bool, agents: Agents, output: str) -> None:
    """Show the last packets that policies dropped on this node, with the policy or rule.

    Only policies with the annotation `l3net.io/log-drops: "true"`, at most ten packets a second each. The
    agent keeps the last 1000, and writes them to its log. With --follow, JSON has one line per packet.
    """
    after: dict[str, int] = {}
    answers = _dropped(after, agents)
    if not any(answer["logging"] for _, answer in answers):
        click.echo(
            'no policy has the annotation l3net.io/log-drops: "true", so no drops are logged', err=True
        )
    _tell_notes(dict.fromkeys(answer["problem"] for _, answer in answers if answer["problem"]))
    if not follow:
        rows = _by_time(agents, answers)
        if output == "table":
            click.echo("".join(f"{_drop_of(row, agents)}\n" for row in rows), nl=False)
        else:
            print_value(rows, output)
        return
    while True:
        for row in _by_time(agents, answers):
            click.echo(_drop_of(row, agents) if output == "table" else _line(row, output))
        for node, answer in answers:
            if answer["drops"]:
                after[node] = answer["drops"][-1]["serial"]
        time.sleep(_AGAIN if agents.here else _AGAIN_AFAR)
        answers = _dropped(after, agents)
        for node, answer in answers:
            if answer["seen"] < after.get(node, 0):  # another agent by now, which counts anew
                after[node] = 0


def _dropped(after: Mapping[str, int], agents: Agents) -> Answers:
    """What each node has dropped after those."""

    def question(node: str) -> str:
        return f"policy drops {json.dumps({'after': str(after[node])} if after.get(node) else {})}"

    return agents.each(question, _told, _PATIENCE)


def _by_time(agents: Agents, answers: Answers) -> list[dict[str, Any]]:
    """Rows of one node as they are, those of several with their nodes."""
    if not agents.several:
        return list(answers[0][1]["drops"])
    rows = agents.named([(node, answer["drops"]) for node, answer in answers])
    return sorted(rows, key=lambda row: float(row["time"]))


def _drop_of(row: dict[str, Any], agents: Agents) -> str:
    return f"{row['node']}: {drop_line(row)}" if agents.several else drop_line(row)


def _line(row: dict[str, Any], output: str) -> str:
    if output == "json":
        return json_text(row)
    import yaml  # noqa: PLC0415 - only this branch needs it

    return str(yaml.safe_dump(row, sort_keys=False, explicit_start=True)).rstrip()


# --- asking ----------------------------------------------------------------------------------------------


def _asked(word: str, asked: dict[str, str], directory: Path | None, agents: Agents) -> Answers:
    """The answers of agents, or of a directory. Raises ConfigError, NotRunningError."""
    if directory is not None:
        here_alone(agents, "--dir")
        return [("", directory_view(directory, word, asked))]
    return agents.each(f"policy {word} {json.dumps(asked)}", _told, _PATIENCE)


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        if answer["error"].startswith("ask for: alive"):
            raise NotRunningError("the agent that runs is older than this command")
        raise ConfigError(answer["error"])
    return answer


def _tell(agents: Agents, answers: Answers, lines: Callable[[dict[str, Any]], list[str]]) -> None:
    for node, each in agents.rendered(answers, lines):
        click.echo("\n".join([*filter(None, [agents.title(node)]), *each]))


# --- for people ------------------------------------------------------------------------------------------


def _name(row: dict[str, Any]) -> str:
    return f"{row['namespace']}/{row['name']}" if row["namespace"] else str(row["name"])


def _cells(row: dict[str, Any]) -> list[object]:
    """A policy as a row."""
    return [
        "tenant" if row["derived"] else row["kind"],
        _name(row),
        row["tier"],
        "" if row["priority"] is None else row["priority"],
        row["subject"],
        len(row["pods"]),
        *("-" if row[each] is None else row[each] for each in ("ingress", "egress")),
    ]


def _tell_refused(answers: Answers) -> None:
    for text in dict.fromkeys(answer["refused"] for _, answer in answers if answer.get("refused")):
        click.echo(f"problem: policies are not in force as declared: {text}", err=True)


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
        lines.append("  denied packets are logged: `l3net policy drops`")
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


def _matrix(answer: dict[str, Any]) -> tuple[str, list[str], list[tuple[str, ...]]]:
    """Title, columns, rows."""
    return (
        f"namespace {answer['namespace']}, port {answer['port']}",
        ["FROM", *(f"TO {column['name']}" for column in answer["columns"])],
        [(_from(row), *map(_cell, row["to"])) for row in answer["rows"]],
    )


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
