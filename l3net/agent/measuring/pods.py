"""Pods: their addresses, and how long their ADD takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, Sample, counter, gauge, histogram, one


def _size(seen: Seen) -> Iterator[Sample]:
    return (((f"IPv{family.value}",), size) for family, size, _ in seen.agent.podnet.room())


def _taken(seen: Seen) -> Iterator[Sample]:
    for family, _, usage in seen.agent.podnet.room():
        yield (f"IPv{family.value}", "leased"), usage.leased
        yield (f"IPv{family.value}", "cooling"), usage.cooling


PODS: Final[tuple[Row[Seen], ...]] = (
    gauge("l3net_leases", "Attachments with addresses.", one(lambda seen: seen.pods["leases"])),
    gauge(
        "l3net_block_addresses",
        "Addresses for pods in the blocks of this node that are open to every namespace.",
        _size,
        "family",
    ),
    gauge(
        "l3net_block_addresses_taken",
        "Of these, addresses that pods have (`leased`) or had recently (`cooling`).",
        _taken,
        "family",
        "state",
    ),
    counter(
        "l3net_attachments_adopted_total",
        "Running attachments that the lease store did not know, and adopted.",
        one(lambda seen: seen.pods["adopted"]),
    ),
    gauge(
        "l3net_lease_conflicts",
        "Addresses that more than one running pod has, or a pod of another store: none of them is assigned.",
        one(lambda seen: seen.pods["conflicts"]),
    ),
    gauge(
        "l3net_spool_quarantined",
        "Spooled deletions that cannot be read.",
        one(lambda seen: seen.pods["quarantined"]),
    ),
    histogram(
        "l3net_cni_add_duration_seconds",
        "Duration of the phases of successful CNI ADDs; `all` is the whole ADD.",
        lambda seen: [((phase,), found) for phase, found in seen.agent.pods.timings().items()],
        "phase",
    ),
)
