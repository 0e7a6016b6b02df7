"""`l3net explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from l3net.cli import options
from l3net.cli.output import output_option, print_value
from l3net.errors import ConfigError
from l3net.naming import AGENT_SOCKET
from l3net.shell.sockets.agentsocket import ask

#: Seconds for an answer: the kernel is looked at, endpoint by endpoint.
PATIENCE: Final = 30.0
_COLOURS: Final = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command(short_help="Say why something is reachable or not.")
@click.argument(
    "words", nargs=-1, required=True, metavar="[service|pod|address] NAME | SOURCE DESTINATION[:PORT]"
)
@options.run_dir()
@output_option
def explain(words: tuple[str, ...], run_dir: Path, output: str) -> None:
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
    answer = ask(run_dir / AGENT_SOCKET, f"explain {json.dumps({'subject': ' '.join(words)})}", PATIENCE)
    if "error" in answer:
        raise ConfigError(answer["error"])
    if "steps" not in answer:
        raise ConfigError("the agent that runs is older than this command and cannot explain")
    if output != "table":
        print_value(answer, output)
    else:
        show(answer)
    sys.exit(0 if answer["healthy"] else 1)


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
