"""Kernel objects: routes and the envelope."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from l3net.model.terms import Address, Prefix


class RouteKind(enum.Enum):
    UNICAST = 1
    BLACKHOLE = 6


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a unicast route leads. `interface` is a link name, `weight` the ECMP share (1 to 256).

    Without a `gateway` the destination is on the link.
    """

    gateway: Address | None
    interface: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """One FIB entry of ours, wanted or seen; equality is all that `diff` looks at.

    `source`: the address that packets of this host leave from by it; None leaves that to the kernel.
    """

    prefix: Prefix
    next_hops: frozenset[NextHop] = frozenset()
    kind: RouteKind = RouteKind.UNICAST
    metric: int = 0
    source: Address | None = None


class _Made:
    """A route that is filled in yet."""

    __slots__ = ("kind", "metric", "next_hops", "prefix", "source")


def routes_alike(
    prefixes: Iterable[Prefix],
    next_hops: frozenset[NextHop] = frozenset(),
    kind: RouteKind = RouteKind.UNICAST,
    metric: int = 0,
) -> Iterator[Route]:
    """Routes that differ in their prefix alone. Of a table there are 100,000: a frozen dataclass takes six
    times as long to be made as one that is filled in and then becomes it, which Python allows where the slots
    are the same."""
    for prefix in prefixes:
        made: Any = _Made()
        made.prefix, made.next_hops, made.kind, made.metric, made.source = (
            prefix,
            next_hops,
            kind,
            metric,
            None,
        )
        made.__class__ = Route
        yield made


@dataclass(frozen=True, slots=True)
class EnvelopeEnd:
    """Another node as the envelope reaches it: its device's MAC, its address outside, and the addresses that
    stand for it as gateways on this node and nowhere else. `ready`: the node is.

    What goes by `asking_mac` bears a group's address, by which the other node tells it from the rest.
    """

    node: str
    mac: str
    asking_mac: str
    address: Address
    gateways: Mapping[tuple[int, bool], Address] = field(
        hash=False
    )  # by version, and whether it is for asking
    ready: bool = True

    @property
    def mark(self) -> int:
        """What packets bear that are to leave the cluster by this node (naming.EGRESS_MARKS): the lower half
        of its gateway's address, which is another one's for no other node."""
        return (int(self.gateways[4, False]) & 0xFFFF) << 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """The device by which packets go to other nodes as they came (VXLAN, RFC 7348).

    `address` is this node's, of the outer family; `mtu` that of the links between nodes, in bytes. `index` is
    the kernel's number of the device, 0 where it is not there yet.
    """

    node: str
    mac: str
    address: Address
    mtu: int
    ends: tuple[EnvelopeEnd, ...] = ()
    index: int = 0

    @property
    def around(self) -> int:
        """Octets around a packet: the outer IP header, UDP, VXLAN and Ethernet (RFC 7348 section 5)."""
        return (20 if self.address.version == 4 else 40) + 8 + 8 + 14
