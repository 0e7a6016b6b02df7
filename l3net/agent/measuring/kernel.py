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
        "Kernel routes that l3net wants.",
        one(lambda seen: len(seen.agent.kernel.desired)),
    ),
    gauge(
        "l3net_routes_held",
        "Kernel routes of l3net in the kernel.",
        one(lambda seen: len(seen.agent.kernel.mirror)),
    ),
    gauge(
        "l3net_routes_refused",
        "Kernel routes of l3net that the kernel refuses.",
        one(lambda seen: len(seen.agent.kernel.refused)),
    ),
    gauge(
        "l3net_kernel_problems",
        "Parts that the kernel refused.",
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
        "Failures of connection tracking since the host's start: `drop`, packets whose connection"
        " could not be added; `insert_failed`, those without a free tuple, for example because "
        "all ports of an address are in use; `early_drop`, connections removed to make room.",
        _refused,
        "kind",
    ),
    gauge(
        "l3net_snat_ports_used",
        f"Ports in use, of the {PORTS_OF_ADDRESS} of a source address used for masquerading, at the"
        " destination address and port with the most connections, by protocol, at the last check.",
        _ports,
        "source",
        "protocol",
    ),
    gauge(
        "l3net_snat_addresses_missing",
        "Addresses of the Node's annotation for pods' traffic that are on no link.",
        one(lambda seen: len(seen.agent.moving.snat.missing)),
    ),
)
