"""The prefixes of `advertise.networks`: aggregates that stand on a blackhole of the node's own."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.announce.source import Announcement, NodeView, Source
from l3net.model import Prefix


def _prefixes(view: NodeView) -> tuple[Prefix, ...]:
    return view.state.configuration.advertise.networks


def _reasons(view: NodeView) -> Iterator[Announcement]:
    return (Announcement(network, "network") for network in _prefixes(view))


NETWORKS = Source("networks", _prefixes, _reasons)
