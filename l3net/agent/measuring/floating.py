"""Floating addresses: what this node has, and how often they move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, Sample, counter, gauge, one


def _moves(seen: Seen) -> Iterator[Sample]:
    floating = seen.agent.floating
    yield ("came",), floating.came
    yield ("left",), floating.left


FLOATING: Final[tuple[Row[Seen], ...]] = (
    gauge(
        "l3net_floating_addresses",
        "Floating addresses of this node's pods.",
        one(lambda seen: len(seen.agent.floating.held)),
    ),
    counter(
        "l3net_floating_moves_total",
        "Floating addresses that moved to this node or away from it.",
        _moves,
        "direction",
    ),
)
