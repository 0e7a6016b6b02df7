"""Routes and tables of the kernel, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, Sample, counter, gauge, one
from l3net.model import PORTS_OF_ADDRESS
from l3net.naming import PROTOCOL_NUMBERS

#: The parts of the node that the kernel may refuse, as the agent names them in its problems.
PARTS: Final = (
    "firewall",
    "routes",
    "underlay",
    "bridge",
    "envelope",
    "connections",
    "connections of policies",
)

_PROTOCOLS: Final = {number: name for name, number in PROTOCOL_NUMBERS.items()}


def _ports(seen: Seen) -> Iterator[Sample]:
    for each in seen.agent.moving.snat.ports:
        yield (str(each.source), _PROTOCOLS[each.protocol]), each.used


def _refused(seen: Seen) -> Iterator[Sample]:
    for kind, count in seen.agent.shells.kernel.connections.refused().items():
        yield (kind,), count


KERNEL: Final[tuple[Row[Seen], ...]] = (
    gauge(
        "l3net_routes_wanted",
        "Kernel routes of ours as wanted.",
        one(lambda seen: len(seen.agent.kernel.desired)),
    ),
    gauge(
        "l3net_routes_held", "Kernel routes of ours as held.", one(lambda seen: len(seen.agent.kernel.mirror))
    ),
    gauge(
        "l3net_routes_refused",
        "Kernel routes of ours that the kernel refuses.",
        one(lambda seen: len(seen.agent.kernel.refused)),
    ),
    gauge(
        "l3net_kernel_problems",
        "Parts the kernel refused.",
        one(lambda seen: len(seen.agent.kernel.problems)),
    ),
    gauge(
        "l3net_kernel_refused",
        "Whether the kernel refused a part: `firewall` is the nftables table.",
        lambda seen: [((part,), part in seen.agent.kernel.problems) for part in PARTS],
        "part",
    ),
    counter(
        "l3net_conntrack_refused_total",
        "What connection tracking has refused since the host's start: `drop`, packets whose connection could"
        " not be entered; `insert_failed`, those of them without a free tuple, as when all ports of an"
        " address are taken; `early_drop`, connections that made room for others.",
        _refused,
        "kind",
    ),
    gauge(
        "l3net_snat_ports_used",
        f"Of the {PORTS_OF_ADDRESS} ports of a source address that stands for others, those that connections"
        " to one address and port take, by protocol: where they take the most, as of the last look.",
        _ports,
        "source",
        "protocol",
    ),
    gauge(
        "l3net_snat_addresses_missing",
        "Addresses that pods are to leave with by the annotation of the Node, and that stand on no link.",
        one(lambda seen: len(seen.agent.moving.snat.missing)),
    ),
)
