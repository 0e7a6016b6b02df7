"""The agent itself: whether it is as it should be, its passes, its process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net import __version__
from l3net.agent.health import unready
from l3net.agent.measuring.seen import Seen
from l3net.kube.registry import KINDS
from l3net.metering.family import Row, Sample, counter, gauge, histogram, one


def _declared(seen: Seen) -> Iterator[Sample]:
    state = seen.agent.state
    for kind, row in KINDS.items():
        if row.absent is None:
            yield (kind.value,), row.count(state)


def _listed(seen: Seen) -> Iterator[Sample]:
    for kind, view in seen.agent.views.items():
        if view.list_age is not None:
            yield (kind.value,), view.list_age


def _bookmarked(seen: Seen) -> Iterator[Sample]:
    for kind, view in seen.agent.views.items():
        if view.bookmark_age is not None:
            yield (kind.value,), view.bookmark_age


def _faults(seen: Seen) -> Iterator[Sample]:
    """By the kind of part: what follows a colon is of one object, and there may be thousands."""
    counts: dict[str, int] = {}
    for fault in seen.pods["faults"]:
        part = str(fault["part"]).partition(": ")[0]
        counts[part] = counts.get(part, 0) + fault["count"]
    return (((part,), count) for part, count in sorted(counts.items()))


NODE: Final[tuple[Row[Seen], ...]] = (
    gauge("l3net_build_info", "Release of the process.", lambda _: [((__version__,), 1)], "version"),
    gauge("l3net_in_sync", "Whether the declared state is complete.", one(lambda seen: seen.agent.in_sync)),
    gauge("l3net_ready", "Whether the agent is ready.", one(lambda seen: not unready(seen.agent))),
    gauge(
        "l3net_speaker_connected",
        "Whether the agent is connected to the speaker.",
        one(lambda seen: seen.agent.speaking.connected),
    ),
    gauge("l3net_declared_objects", "Declared objects in force.", _declared, "kind"),
    gauge(
        "l3net_rejected_objects",
        "Declared objects that are invalid.",
        one(lambda seen: len(seen.agent.declared.rejected)),
    ),
    gauge(
        "l3net_view_list_age_seconds",
        "Time since all objects of a kind were listed. No samples with a directory.",
        _listed,
        "kind",
    ),
    gauge(
        "l3net_view_bookmark_age_seconds",
        "Time since the last bookmark of a watch from the API server. No samples with a directory.",
        _bookmarked,
        "kind",
    ),
    gauge(
        "l3net_drain_stage",
        "0: none, 1: tagged, 2: service addresses withdrawn, 3: all withdrawn, 4: sessions closed.",
        one(lambda seen: seen.agent.draining.stage),
    ),
    counter("l3net_passes_total", "Passes of the loop.", one(lambda seen: seen.agent.passes)),
    counter(
        "l3net_passes_failed_total",
        "Passes that failed with an unexpected error.",
        one(lambda seen: seen.agent.failed_passes),
    ),
    histogram(
        "l3net_pass_duration_seconds",
        "Duration of a pass of the loop.",
        one(lambda seen: seen.agent.pass_seconds),
        formerly="l3net_pass_seconds",
    ),
    counter(
        "l3net_faults_total",
        "Failures after which a part of the agent continued; parts of one kind are counted together.",
        _faults,
        "part",
    ),
    counter(
        "l3net_questions_total",
        "Questions over the agent's socket, by their first word; unknown ones as `other`.",
        lambda seen: [((word,), count) for word, count in sorted(seen.beside.asked().items())],
        "question",
    ),
    gauge("l3net_history_entries", "Entries of `l3net history`.", one(lambda seen: seen.beside.history()[0])),
    counter(
        "l3net_history_dropped_total",
        "Entries that came too fast to be kept in the history.",
        one(lambda seen: seen.beside.history()[1]),
    ),
    counter(
        "l3net_events_posted_total",
        "Kubernetes Events posted.",
        one(lambda seen: seen.beside.events()[0]),
    ),
    counter(
        "l3net_events_dropped_total",
        "Kubernetes Events dropped, because there were too many or the API server refused them.",
        one(lambda seen: seen.beside.events()[1]),
    ),
    counter(
        "l3net_api_requests_total",
        "Requests to the API server by method and HTTP status; `none`: no answer. No samples with"
        " a directory.",
        lambda seen: sorted(seen.beside.answers().items()),
        "method",
        "status",
    ),
    counter(
        "process_cpu_seconds_total",
        "CPU time used.",
        one(lambda seen: seen.agent.shells.process.cpu_seconds()),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        one(lambda seen: seen.agent.shells.process.resident()),
    ),
    gauge(
        "process_start_time_seconds",
        "Start time of the process, in seconds since 1970.",
        one(lambda seen: seen.agent.shells.process.started_at()),
    ),
    gauge(
        "process_uptime_seconds",
        "Time since the start. Deprecated: use process_start_time_seconds.",
        one(lambda seen: seen.agent.shells.process.uptime()),
    ),
)
