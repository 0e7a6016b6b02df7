"""Completion of values: what the running agent of this node knows, and nothing where there is none.

A command names what an argument may be: `@click.argument("peer", shell_complete=known("peers"))`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from l3net.naming import AGENT_SOCKET, RUN_DIR

#: Seconds for which somebody who types waits.
PATIENCE: Final = 1.0

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def known(*kinds: str, words: Iterable[str] = ()) -> Complete:
    """Names of these kinds (l3net.agent.completing), and `words` that may stand there too."""

    def complete(context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
        found = [word for word in words if word.startswith(begin)]
        return [CompletionItem(name) for name in [*found, *_names(context, kinds, begin)]]

    return complete


def of_words(choose: Callable[[list[str]], tuple[str, ...]], *first: str) -> Complete:
    """Where an argument takes several words: `choose` says of which kinds the next one may be, after those
    before it; `first` may stand at the beginning."""

    def complete(context: click.Context, parameter: click.Parameter, begin: str) -> list[CompletionItem]:
        before = list(context.params.get(parameter.name or "") or ())
        words = () if before else first
        return known(*choose(before), words=words)(context, parameter, begin)

    return complete


def node_names(context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    """Of the lab or the addresses that the line names so far, else what this node's agent knows. The API
    server is not asked: that takes longer than somebody who types waits."""
    lab, urls = context.params.get("way_lab"), context.params.get("way_node_urls")
    if lab:
        names = _nodes_of_lab(str(lab))
    elif urls:
        names = [str(each).partition("=")[0] for each in urls]
    else:
        names = _names(context, ("nodes",), begin)
    return [CompletionItem(name) for name in names if name.startswith(begin)]


def _nodes_of_lab(name: str) -> list[str]:
    from l3net.lab.state import load  # noqa: PLC0415 - only while somebody completes

    try:
        return [node.name for node in load(name)[1].nodes]
    except Exception:  # whoever types is told nothing, least of all why
        return []


def labs(_context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    """Names of the labs on this machine."""
    from l3net.lab.state import LABS  # noqa: PLC0415 - only while somebody completes

    try:
        found = sorted(each.name for each in LABS.iterdir() if (each / "lab.json").is_file())
    except OSError:
        return []
    return [CompletionItem(name) for name in found if name.startswith(begin)]


def _names(context: click.Context, kinds: tuple[str, ...], begin: str) -> list[str]:
    from l3net.shell.sockets.agentsocket import ask  # noqa: PLC0415 - only while somebody completes

    question = f"complete {json.dumps({'kinds': kinds, 'begin': begin})}"
    try:
        answer = ask(_run_dir(context) / AGENT_SOCKET, question, PATIENCE)
        return [str(name) for name in answer.get("names", ())]
    except Exception:  # whoever types is told nothing, least of all why
        return []


def _run_dir(context: click.Context) -> Path:
    """That of the command line so far, else of the environment, else the usual one."""
    place: click.Context | None = context
    while place is not None:
        given = place.params.get("run_dir")
        if given is not None:
            return Path(given)
        place = place.parent
    return Path(os.environ.get("L3NET_RUN_DIR") or RUN_DIR)
