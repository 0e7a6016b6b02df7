"""What a fault is: what it does, to whom, and what it may cost. Values; the deeds are in the modules
beside."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from l3net.lab.chaos.step import Step
from l3net.lab.topology import Topology

if TYPE_CHECKING:
    from l3net.lab.chaos.ground import Ground


class Which(enum.Enum):
    """The probe paths that an allowance is for."""

    NODE = "whatever begins, ends or is translated on the host"
    SERVICES = "services that the host translates"
    LOCAL = "what begins or ends on the host, but for services"
    CROSSING = "whatever leaves its host"
    STREAMS = "UDP through services that the host answers: what is under way as its endpoint goes is lost"
    FORBIDDEN = "what policies forbid towards or from the host: it may pass"


@dataclass(frozen=True, slots=True)
class Allowance:
    """When probes may be lost because of a fault, in seconds: after it begins, all the while, after it ends.

    `most`: so many of a path in a row, 0 for any number."""

    which: Which
    host: str = ""
    begin: float = 0.0
    whole: bool = False
    end: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """What does not forward while a fault lasts: a host, or with `far` the links between two."""

    host: str
    far: str = ""


Allows: TypeAlias = Callable[[Topology, str], tuple[Allowance, ...]]
Cuts: TypeAlias = Callable[[Topology, str], tuple[Cut, ...]]
Targets: TypeAlias = Callable[[Topology], tuple[str, ...]]
#: Does it when entered, undoes it when left; what is done in between stays done.
Deed: TypeAlias = "Callable[[Ground, Step], AbstractContextManager[None]]"


class Ribs(enum.Enum):
    """What the routers are to hold while a fault lasts, once it has been noticed."""

    SAME = "as declared"
    CUT = "as declared, over what is not cut"
    LEFT = "as if the node were not there"
    ANY = "not looked at"


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is its sentence; `lengths` are the shortest and longest that are drawn, in seconds.

    `touches`: whether sessions of its target may go down. `noticed`: seconds until a cut is noticed.
    `vacates`: its target has no endpoint that is ready meanwhile. `missing`: why it cannot be done on this
    machine, empty if it can."""

    name: str
    family: str
    what: str
    targets: Targets
    act: Deed
    lengths: tuple[float, float]
    allows: Allows = lambda _topology, _target: ()
    cuts: Cuts = lambda _topology, _target: ()
    ribs: Ribs = Ribs.SAME
    touches: bool = False
    noticed: float = 3.0
    vacates: bool = False
    missing: Callable[[], str] = lambda: ""


def nodes(topology: Topology) -> tuple[str, ...]:
    return tuple(node.name for node in topology.nodes)


def routers(topology: Topology) -> tuple[str, ...]:
    return tuple(router.name for router in topology.routers)


def links(topology: Topology) -> tuple[str, ...]:
    """Links over which BGP is spoken, as `n1,tor1`."""
    return tuple(
        f"{link.ends[0].host},{link.ends[1].host}"
        for link in topology.links
        if all(topology.as_number_of(end.host) is not None for end in link.ends)
    )


def everybody(_topology: Topology) -> tuple[str, ...]:
    """What is declared, for all nodes."""
    return ("declared",)
