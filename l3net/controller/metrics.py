"""What the controller measures, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from l3net import __version__
from l3net.controller.loop import Controller
from l3net.metering.family import Row, Sample, counter, gauge, one
from l3net.metering.text import exposition
from l3net.ports import Process

log = logging.getLogger("l3net.controller")


@dataclass(frozen=True, slots=True)
class Measured:
    """A controller, its process, and what became of its requests to the API server: by method and answer."""

    controller: Controller
    process: Process
    answers: Callable[[], Mapping[tuple[str, str], int]] = dict

    def text(self) -> str:
        """Everything, as one scrape."""
        return exposition(ROWS, self, _failed)


def _failed(name: str, error: Exception) -> None:
    log.warning("metric %s: %s", name, type(error).__name__)
    log.debug("metric %s", name, exc_info=error)


def _pools(state: str) -> Callable[[Measured], Iterator[Sample]]:
    def read(seen: Measured) -> Iterator[Sample]:
        decision = seen.controller.decision
        for name, status in sorted(decision.pools.items()) if decision is not None else ():
            yield (name,), status.usage.used if state == "used" else status.usage.free

    return read


def _findings(seen: Measured) -> Iterator[Sample]:
    found = Counter((each.kind.value, each.reason.value) for each in seen.controller.said)
    return iter(sorted(found.items()))


def _held(seen: Measured, what: str) -> int:
    decision = seen.controller.decision
    if decision is None:
        return 0
    return sum(map(len, getattr(decision.ledger, what).values()))


ROWS: Final[tuple[Row[Measured], ...]] = (
    gauge("l3net_build_info", "Release of the process.", lambda _: [((__version__,), 1)], "version"),
    gauge(
        "l3net_controller_leader",
        "Whether this controller leads. Exactly one of all controllers should.",
        one(lambda seen: seen.controller.leading),
    ),
    gauge(
        "l3net_controller_in_sync",
        "Whether the declared state is complete.",
        one(lambda seen: seen.controller.in_sync),
    ),
    counter(
        "l3net_controller_passes_total",
        "Passes that made a decision while this controller led.",
        one(lambda seen: seen.controller.passes),
    ),
    gauge(
        "l3net_controller_writes_waiting",
        "Writes to single objects in progress, or waiting for a retry.",
        one(lambda seen: seen.controller.writes.waiting()),
    ),
    counter(
        "l3net_controller_writes_failed_total",
        "Failed writes to single objects; each is retried.",
        one(lambda seen: seen.controller.writes.failures),
    ),
    gauge(
        "l3net_controller_failing",
        "Whether writing the ledger or an object fails.",
        one(lambda seen: bool(seen.controller.problem)),
    ),
    gauge(
        "l3net_controller_node_blocks",
        "Blocks that nodes have from IPPools. Only on the leader.",
        one(lambda seen: _held(seen, "blocks")),
    ),
    gauge(
        "l3net_controller_service_addresses",
        "Assigned addresses of load balancers. Only on the leader.",
        one(lambda seen: _held(seen, "addresses")),
    ),
    gauge(
        "l3net_controller_pool_used",
        "Assigned blocks (pools for pods) or addresses of an IPPool. Only on the leader.",
        _pools("used"),
        "pool",
    ),
    gauge(
        "l3net_controller_pool_free",
        "Free blocks (pools for pods) or addresses of an IPPool. Only on the leader.",
        _pools("free"),
        "pool",
    ),
    gauge(
        "l3net_controller_findings",
        "Conflicts of declared objects and missing references, by kind and reason, as in Events. "
        "Only on the leader.",
        _findings,
        "kind",
        "reason",
    ),
    counter(
        "l3net_api_requests_total",
        "Requests to the API server by method and HTTP status; `none`: no answer.",
        lambda seen: sorted(seen.answers().items()),
        "method",
        "status",
    ),
    counter("process_cpu_seconds_total", "CPU time used.", one(lambda seen: seen.process.cpu_seconds())),
    gauge("process_resident_memory_bytes", "Resident memory.", one(lambda seen: seen.process.resident())),
    gauge(
        "process_start_time_seconds",
        "Start time of the process, in seconds since 1970.",
        one(lambda seen: seen.process.started_at()),
    ),
)
