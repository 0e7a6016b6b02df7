"""Connection tracking: room for connections, and ports for those whose source is translated."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.doctor.findings import Finding, NodeLook, Severity
from l3net.model import PORTS_OF_ADDRESS
from l3net.naming import PROTOCOL_NUMBERS

_NEARLY_FULL = 0.9
#: Share of a source address's ports towards one destination from which on they are told of.
FILLING = 0.75


def judge_tracking(look: NodeLook) -> Iterator[Finding]:
    """Of the host."""
    yield from _conntrack(look)
    yield from _ports(look)


def _conntrack(look: NodeLook) -> Iterator[Finding]:
    if look.conntrack is None:
        return
    entries, limit = look.conntrack
    if limit and entries >= _NEARLY_FULL * limit:
        yield Finding(
            "kernel",
            "conntrack",
            Severity.PROBLEM,
            f"{entries} of {limit} connections are tracked: new ones are about to be dropped",
            "raise net.netfilter.nf_conntrack_max",
        )


def _ports(look: NodeLook) -> Iterator[Finding]:
    for each in look.ports:
        protocol = {number: name for name, number in PROTOCOL_NUMBERS.items()}[each.protocol].upper()
        full = each.used >= _NEARLY_FULL * PORTS_OF_ADDRESS
        so_far = ""
        if look.insert_failed:
            so_far = f" (insert_failed of connection tracking: {look.insert_failed} since the host's start)"
        yield Finding(
            "kernel",
            f"ports of {each.source}",
            Severity.PROBLEM if full else Severity.WARNING,
            f"{each.used} of {PORTS_OF_ADDRESS} are taken by {protocol} connections to {each.destination} "
            f"port {each.port}: without a free one a new connection is dropped{so_far}",
            "have pods leave with more addresses: annotate the Node with l3net.io/snat-addresses, or give an "
            "EgressIP several (replicas); have clients keep connections instead of making new ones",
        )
