"""Keeps the declared state as the datastore's events tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from l3net.model import BgpConfiguration, ClusterState, Kind, ObjectName
from l3net.ports import Changed


def take(state: ClusterState, event: Changed) -> None:
    """Put or delete one declared object. A BGPConfiguration not named `default` means nothing."""
    if event.kind is Kind.BGP_CONFIGURATION:
        if event.name.name == "default":
            fact = event.fact
            state.configuration = fact if isinstance(fact, BgpConfiguration) else BgpConfiguration()
        return
    store, key = _store(state, event)
    if event.fact is None:
        store.pop(key, None)
    else:
        store[key] = event.fact


def objects(state: ClusterState) -> Iterator[Changed]:
    """Every object of a state, as the events that would make it."""
    for kind in Kind:
        if kind is Kind.BGP_CONFIGURATION:
            yield Changed(kind, ObjectName("", "default"), state.configuration)
            continue
        store, _ = _store(state, Changed(kind, ObjectName("", ""), None))
        for key, fact in store.items():
            yield Changed(kind, key if isinstance(key, ObjectName) else ObjectName("", key), fact)


def _store(state: ClusterState, event: Changed) -> tuple[dict[Any, Any], object]:
    by_name = event.name.name
    stores: dict[Kind, tuple[dict[Any, Any], object]] = {
        Kind.NODE: (state.nodes, by_name),
        Kind.NAMESPACE: (state.namespaces, by_name),
        Kind.SECRET: (state.secrets, event.name),
        Kind.SERVICE: (state.services, event.name),
        Kind.ENDPOINT_SLICE: (state.slices, event.name),
        Kind.BGP_PEER: (state.peers, by_name),
        Kind.BGP_FILTER: (state.filters, by_name),
        Kind.IP_POOL: (state.pools, by_name),
    }
    return stores[event.kind]
