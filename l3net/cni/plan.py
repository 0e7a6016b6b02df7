"""The plan of an attachment: its parts in the order they are made, and the order they are taken away in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l3net.cni.host_end import assigned
from l3net.cni.parts import Facts, Part, Sandbox
from l3net.cni.result import Interface, Result
from l3net.ipam.lease import Lease


@dataclass(frozen=True, slots=True)
class Plan:
    """All that ADD does for one interface once it has its addresses, in order."""

    lease: Lease
    parts: tuple[Part, ...]
    dns: Mapping[str, Any] | None = None


def plan(kinds: Iterable[type[Part]], facts: Facts) -> Plan:
    """The parts of these kinds that an attachment has. Raises CniError 7."""
    parts = tuple([part for kind in kinds if (part := kind.wanted(facts)) is not None])
    return Plan(facts.lease, parts, facts.setup.dns or (facts.given.dns if facts.given else None))


def order_of_removal(kinds: Sequence[type[Part]]) -> tuple[type[Part], ...]:
    """What stops the traffic first, or a pod that goes could send what a part forbids; the rest in reverse.

    ADD undoes in reverse alone: no pod runs yet.
    """
    backwards = [*reversed(kinds)]
    return (
        *(kind for kind in backwards if kind.stops_traffic),
        *(kind for kind in backwards if not kind.stops_traffic),
    )


def result_of(
    wanted: Plan,
    netns: str,
    bridge: tuple[str, str, int],
    host: tuple[str, str, int],
    pod: tuple[str, str, int],
) -> Result:
    """The result of ADD; each link is given as (name, MAC, MTU) the kernel shows."""
    routes = next((part.routes for part in wanted.parts if isinstance(part, Sandbox)), ())
    return Result(
        interfaces=(
            Interface(bridge[0], bridge[1], mtu=bridge[2]),
            Interface(host[0], host[1], mtu=host[2]),
            Interface(pod[0], pod[1], netns, pod[2]),
        ),
        addresses=assigned(wanted.lease, 2),
        routes=routes,
        dns=wanted.dns,
    )
