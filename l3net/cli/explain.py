"""`l3net explain`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import click

from l3net.cli.nodes import Agents, any_agents_option, checked
from l3net.cli.output import output_option
from l3net.cli.values import of_words
from l3net.cli.ways import Ways

#: Seconds for an answer: the kernel is looked at, endpoint by endpoint.
PATIENCE: Final = 30.0
_COLOURS: Final = {"ok": "green", "note": "yellow", "bad": "red"}


def _may_follow(before: list[str]) -> tuple[str, ...]:
    """Kinds of names (l3net.agent.completing) that may come after these words."""
    everything = ("pods", "services", "service-addresses", "addresses")
    if len(before) == 1:
        named = {"service": ("services",), "pod": ("pods",), "address": ("service-addresses", "addresses")}
        return named.get(before[0], everything)
    return everything if not before else ()


@click.command(short_help="Explain why something is reachable or not.")
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[service|pod|address] NAME | SOURCE DESTINATION[:PORT]",
    shell_complete=of_words(_may_follow, "service", "pod", "address"),
)
@click.option(
    "--ask-router",
    is_flag=True,
    help="With --lab: also ask the routers (vtysh, birdc ...) whether they accepted the "
    "announcements, and by which route they forward.",
)
@any_agents_option
@output_option
def explain(words: tuple[str, ...], ask_router: bool, agents: Agents, output: str) -> None:
    """Explain step by step whether a service, pod or address is reachable, or whether a packet passes from
    SOURCE to DESTINATION, and why not.

    It checks the announcement of each address to each peer, how this node treats a packet (source guard,
    service table, other programs that handle it first, endpoint, policies, route, neighbor, the pod's
    port, the way back, masquerading), and settings of the host that stop packets. The first line is the
    answer, the last line says what to do.

    It sends ARP probes and neighbor solicitations for routers and its own addresses on this host's links,
    and two echo requests, a small and a large one, to each end that is elsewhere. It changes nothing.

    SOURCE and DESTINATION are an address, NAMESPACE/NAME of a pod or (DESTINATION) of a service.
    DESTINATION may have a port: 10.96.0.10:53/udp, [fd00::1]:443 or default/web:80. A source that is
    neither pod nor node counts as outside the cluster. The command asks this node; use --node NODE for a
    pod on another node. With several nodes each answer is one line, those with problems first; -o json
    has the steps. --lab alone asks the lab's first node.

    Exit code 0: everything is ok; 1: something stops packets; 2: the question is invalid; 3: no agent
    answers.

    \b
    l3net explain service default/web
    l3net explain pod default/web-0
    l3net explain 198.51.100.7 10.96.0.10:443
    l3net explain default/shell default/web:80 -o json
    l3net explain service default/web --all-nodes
    """
    ways = agents.ways
    if ask_router and ways.lab is None:
        raise click.UsageError("--ask-router needs --lab")
    if ways.given and not ways.chosen:
        agents.ways = _first(ways)
    question = f"explain {json.dumps({'subject': ' '.join(words)})}"
    older = "the agent that runs is older than this command and cannot explain"
    found = agents.each(question, lambda answer: _told(answer, older), PATIENCE)
    if ways.lab is not None and ask_router:
        found = _with_routers(ways.lab, found)
    if output != "table":
        agents.print(found, output)
    elif agents.several:
        ranked = sorted(found, key=lambda each: bool(each[1]["healthy"]))
        agents.table(("", "ANSWER", "WHAT TO DO"), ranked, lambda answer: [_line(answer)])
    else:
        agents.rendered(found, show)
    sys.exit(0 if all(answer["healthy"] for _, answer in found) else 1)


def _told(answer: dict[str, Any], older: str) -> dict[str, Any]:
    found = checked(answer, "steps", older)
    return {**found, "healthy": bool(found["healthy"])}


def _first(ways: Ways) -> Ways:
    """The first node of a lab. Raises UsageError of another way, NoLabError."""
    if ways.lab is None:
        raise click.UsageError(f"{ways.given}: say which node with --node, or --all-nodes")
    return replace(ways, nodes=tuple(replace(ways, all_nodes=True).doors())[:1])


def _with_routers(lab: str, found: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    from l3net.lab.routers_say import with_routers  # noqa: PLC0415 - only with --ask-router
    from l3net.lab.up import open_lab  # noqa: PLC0415

    there = open_lab(lab)
    return [(node, with_routers(there, node, answer)) for node, answer in found]


def _line(answer: dict[str, Any]) -> tuple[str, ...]:
    return ("ok" if answer["healthy"] else "bad", answer["answer"], answer["advice"])


def show(answer: dict[str, Any]) -> None:
    """For people: the answer, a line a step, and what to do."""
    colour = sys.stdout.isatty()

    def said(word: str, text: str) -> str:
        return click.style(text, fg=_COLOURS[word], bold=True) if colour else text

    well = answer["healthy"]
    click.echo(said("ok" if well else "bad", f"{answer['subject']}: {answer['answer']}"))
    for step in answer["steps"]:
        where = f"{step['where']}: " if step["where"] else ""
        since = f" (since {step['since']})" if step["since"] else ""
        click.echo(
            f"  {said(step['verdict'], step['verdict']):4} {step['what']}: {where}{step['detail']}{since}"
        )
    if answer.get("changed"):
        click.echo(f"  last {_changed(answer['changed'])}")
    if answer["advice"]:
        click.echo(f"-> {answer['advice']}")


def _changed(row: dict[str, Any]) -> str:
    """What was decided last of it, and when, as `l3net history` has it."""
    when = datetime.fromtimestamp(row["at"], UTC).astimezone().isoformat(" ", "seconds")[:19]
    about = row["prefixes"][0] if row["kind"] == "service" and row["prefixes"] else row["subject"]
    to = f" to {row['peer']}" if row["peer"] and row["kind"] == "announcement" else ""
    now = f": {row['old'] or 'new'} -> {row['new']}" if row["kind"] == "service" else ""
    why = f" ({row['reason']})" if row["reason"] else ""
    return f"{when}: {row['kind']}: {about} {row['what']}{to}{now}{why}"
