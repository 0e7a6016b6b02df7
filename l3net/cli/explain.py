"""`l3net explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from l3net.cli import options
from l3net.cli.output import output_option, print_value
from l3net.cli.values import known, of_words
from l3net.errors import ConfigError
from l3net.naming import AGENT_SOCKET, RUN_DIR
from l3net.shell.sockets.agentsocket import ask

if TYPE_CHECKING:
    from l3net.lab.up import Lab

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


@click.command(short_help="Say why something is reachable or not.")
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[service|pod|address] NAME | SOURCE DESTINATION[:PORT]",
    shell_complete=of_words(_may_follow, "service", "pod", "address"),
)
@click.option("--lab", "lab_name", metavar="NAME", help="Ask a node of a lab that is up, from outside.")
@click.option(
    "--node",
    metavar="NODE",
    help="With --lab: which one; the first unless given.",
    shell_complete=known("nodes"),
)
@click.option(
    "--ask-router",
    is_flag=True,
    help="With --lab: ask the routers, too, what they made of what they were told (vtysh, birdc ...).",
)
@options.run_dir()
@output_option
def explain(
    words: tuple[str, ...],
    lab_name: str | None,
    node: str | None,
    ask_router: bool,
    run_dir: Path,
    output: str,
) -> None:
    """Say whether a service, pod or address is reached, or a packet passes from SOURCE to DESTINATION, step
    by step; and why not.

    What is looked at: the decision on each address and which peer is told of it, what this node does with a
    packet (source guard, service table, endpoint, policies, route, neighbour, the pod's port, the way back,
    masquerading), and what of the host stops packets. The first line is the answer, the last one what to do.

    A source or destination is an address, NAMESPACE/NAME of a pod, or (as destination) of a service; the
    destination may have a port, as in 10.96.0.10:53/udp, [fd00::1]:443 or default/web:80. A source that is
    neither pod nor node is taken to be beyond the cluster. This node is asked: what a pod on another node
    sends is judged there.

    Exits with 0 when all is well, 1 when something stops packets, 2 for what cannot be asked, 3 when no agent
    answers.

    \b
    l3net explain service default/web
    l3net explain pod default/web-0
    l3net explain 198.51.100.7 10.96.0.10:443
    l3net explain default/shell default/web:80 -o json
    """
    if lab_name is None and (ask_router or node is not None):
        raise click.UsageError("--node and --ask-router need --lab")
    question = f"explain {json.dumps({'subject': ' '.join(words)})}"
    lab = _lab(lab_name) if lab_name is not None else None
    if lab is None:
        answer = ask(run_dir / AGENT_SOCKET, question, PATIENCE)
    else:
        node = node or lab.topology.nodes[0].name
        answer = ask(lab.host(node).inside(RUN_DIR) / AGENT_SOCKET, question, PATIENCE)
    if "error" in answer:
        raise ConfigError(answer["error"])
    if "steps" not in answer:
        raise ConfigError("the agent that runs is older than this command and cannot explain")
    if lab is not None and ask_router:
        from l3net.lab.routers_say import with_routers  # noqa: PLC0415

        answer = with_routers(lab, node or "", answer)
    if output != "table":
        print_value(answer, output)
    else:
        show(answer)
    sys.exit(0 if answer["healthy"] else 1)


def _lab(name: str) -> Lab:
    from l3net.lab.up import open_lab  # noqa: PLC0415 - only with --lab

    return open_lab(name)


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
    if answer["advice"]:
        click.echo(f"-> {answer['advice']}")
