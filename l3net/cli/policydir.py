"""Answers about the policies of a directory of manifests, as the agent would give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from l3net.agent.declared import take
from l3net.model import ClusterState
from l3net.policy.catalog import find, one, rows
from l3net.policy.matrix import Matrix
from l3net.policy.places import PORT, port_of
from l3net.policy.trial import trial
from l3net.policy.view import Whereabouts, of_state
from l3net.ports import Changed, Rejected
from l3net.shell.manifests.tree import ManifestTree


def directory_view(directory: Path, word: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """What cannot be used of it is told on standard error, and left out. Raises ConfigError."""
    view, refused = _read(directory)
    match word:
        case "list":
            return {"policies": list(rows(view))}
        case "show":
            return one(view, find(view, asked["name"], asked["kind"]), None)
        case "test":
            return {**trial(view, asked["source"], asked["destination"], asked["port"]), "refused": refused}
        case _:
            matrix = Matrix(view, asked["namespace"], port_of(asked["port"] or PORT))
            for _ in matrix.steps():
                pass
            return {**matrix.answer(), "refused": refused}


def _read(directory: Path) -> tuple[Whereabouts, str]:
    """What can be used, and why something that was to be declared is not among it."""
    state, refused = ClusterState(), ""
    for event in ManifestTree(directory).look():
        if isinstance(event, Changed):
            take(state, event)
        elif isinstance(event, Rejected):
            click.echo(f"problem: {event}", err=True)
            if not event.partly:
                refused = refused or f"{event}"
    return of_state(state), refused
