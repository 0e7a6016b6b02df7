"""Routes and tables of the kernel, and what it refuses."""

from __future__ import annotations

from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, gauge, one

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
)
