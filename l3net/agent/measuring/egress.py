"""Egress addresses: what this node holds, who leaves by it, and how often they move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, Sample, counter, gauge, one


def _moves(seen: Seen) -> Iterator[Sample]:
    yield ("came",), seen.agent.egress.came
    yield ("left",), seen.agent.egress.left


def _connections(seen: Seen) -> Iterator[Sample]:
    for address, count in sorted(seen.agent.egress.leaving.counts.items()):
        yield (address,), count


EGRESS: Final[tuple[Row[Seen], ...]] = (
    gauge(
        "l3net_egress_addresses",
        "Egress addresses that this node holds.",
        one(lambda seen: len(seen.agent.egress.paths.held)),
    ),
    gauge(
        "l3net_egress_pods",
        "Addresses of this node's pods that use an EgressIP.",
        one(lambda seen: len(seen.agent.egress.paths.own)),
    ),
    gauge(
        "l3net_egress_connections",
        "Connections out of the cluster with an address that this node holds, at the last count.",
        _connections,
        "address",
    ),
    counter(
        "l3net_egress_moves_total",
        "Egress addresses that moved to this node or away from it.",
        _moves,
        "direction",
    ),
)
