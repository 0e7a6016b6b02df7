"""Kernel objects: routes, the envelope, tracked connections."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Stale:
    """Tracked connections whose translation has changed: those for which everything said here is true.

    `protocol` is IANA's number. `destinations` and `port` are what the client sends to (none, 0: whatever),
    `answered_by` is who answers after translation (None: whoever). Those answered by one of `kept`, as
    (address, port; 0 for any), are as they should be: with the endpoints in force, what remains is stale.
    `untouched`: only those that nothing translated and nobody has answered. `own_in`: only those to an
    address of this host that lies in one of these (None: to whatever address).
    """

    protocol: int
    destinations: frozenset[Address] = frozenset()
    port: int = 0
    answered_by: Address | None = None
    kept: frozenset[tuple[Address, int]] = frozenset()
    untouched: bool = False
    own_in: frozenset[Prefix] | None = None


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection that the kernel tracks, as it is behind any translation of its destination.

    `protocol` is IANA's number; `source` and `source_port` began it, `destination` and `port` answer.
    `handle` is what the kernel knows it by. `unsure`: its beginning may not have been seen, so that the
    other end may have begun it. `seen_as` is the source as the other end sees it, None where that is not
    told.
    """

    protocol: int
    source: Address
    source_port: int
    destination: Address
    port: int
    handle: bytes = b""
    unsure: bool = False
    seen_as: Address | None = None


#: Ports that the kernel may give a translated source, from 1024 on (nf_nat_l4proto_unique_tuple).
PORTS_OF_ADDRESS = 64512


@dataclass(frozen=True, slots=True)
class PortUse:
    """How many ports of a source address, of PORTS_OF_ADDRESS, translated connections to one destination
    take. `protocol` is IANA's number."""

    source: Address
    protocol: int
    destination: Address
    port: int
    used: int
