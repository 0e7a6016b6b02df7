"""Keeps the declared state as the datastore's events tell it."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.kube.registry import KINDS
from l3net.model import ClusterState
from l3net.ports import Changed


def take(state: ClusterState, event: Changed) -> None:
    """Put or delete one declared object. A BGPConfiguration not named `default` means nothing."""
    KINDS[event.kind].put(state, event.name, event.fact)


def objects(state: ClusterState) -> Iterator[Changed]:
    """Every object of a state, as the events that would make it."""
    for kind, row in KINDS.items():
        for name, fact in row.objects(state):
            yield Changed(kind, name, fact)
