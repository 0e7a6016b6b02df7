"""The prefixes of `advertise.networks`: aggregates that stand on a blackhole of the node's own."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.announce.source import Announcement, Source, View
from l3net.model import Prefix


def _prefixes(view: View) -> tuple[Prefix, ...]:
    return view.state.configuration.advertise.networks


def _reasons(view: View) -> Iterator[Announcement]:
    return (Announcement(network, "network") for network in _prefixes(view))


NETWORKS = Source("networks", _prefixes, _reasons)
