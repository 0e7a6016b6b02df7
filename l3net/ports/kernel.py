"""What the kernel of a node holds and tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol, TypeAlias

from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.fib.underlay import HostLink, Underlay
from l3net.model import (
    Address,
    BridgePlan,
    EgressWay,
    Envelope,
    PortUse,
    Prefix,
    Route,
    ServerKey,
    Stale,
    Tracked,
)

RouteKey: TypeAlias = tuple[Prefix, int]  # prefix and metric


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A link, or an address on it, has changed; its name, None when it is not known any more.

    `apart`: whether it is there, but down or a port of no bridge; None: that is not what was told.
    """

    name: str | None
    apart: bool | None = None


@dataclass(frozen=True, slots=True)
class ForwardingOff:
    """Somebody has the host forward no more packets of a family."""


@dataclass(frozen=True, slots=True)
class WayGone:
    """A rule, or a route of a table, by which pods leave through another node was deleted, by whomever."""


@dataclass(frozen=True, slots=True)
class OwnRouteSeen:
    """Somebody else put or deleted a route of our protocol."""

    route: Route
    gone: bool


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """A route that is not ours and can matter to next hops has changed; `rival`: it stands where one of ours
    could, by prefix and metric."""

    rival: RouteKey | None
    gone: bool


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A transaction has changed our nftables table: the generation it made."""

    generation: int


@dataclass(frozen=True, slots=True)
class GuardSeen:
    """Somebody else has changed the table of the pods' ports."""


@dataclass(frozen=True, slots=True)
class NoticesLost:
    """Notifications were lost: everything is to be read again."""


KernelNotice: TypeAlias = (
    LinkSeen | ForwardingOff | WayGone | OwnRouteSeen | RouteSeen | TableSeen | GuardSeen | NoticesLost
)


class KernelNotices(Protocol):
    """What of the kernel's was changed by somebody else, as it happens."""

    def start(self, heard: Callable[[KernelNotice], None]) -> None:
        """Raises KernelError."""
        ...

    def stop(self) -> None: ...


class UnderlayReader(Protocol):
    """Links, addresses and routes that are not ours."""

    def read(self) -> tuple[Underlay, Mapping[int, HostLink]]:
        """All of it, as one picture. Raises KernelError."""
        ...


class RouteTable(Protocol):
    """The kernel's routes of ours, and only those."""

    def read(self) -> dict[tuple[Prefix, int], Route]:
        """Routes with our protocol number in the main table, by prefix and metric."""
        ...

    def prepare(
        self, delta: Delta[tuple[Prefix, int], Route]
    ) -> Callable[[], dict[tuple[Prefix, int], KernelError]]:
        """Make a change ready. Calling the answer, also in another thread, carries out what can be, in the
        order given, puts first, and returns what failed. The next may be made ready meanwhile, of other
        routes; it is to be carried out after this one."""
        ...


class Bridges(Protocol):
    """The pod bridge."""

    def read(self, name: str) -> BridgePlan | None:
        """The bridge as it is, None if absent or down."""
        ...

    def apply(self, plan: BridgePlan) -> None:
        """Make it so, creating, setting up and readdressing as needed; addresses not planned go. Idempotent.

        Raises KernelError.
        """
        ...


class EnvelopeDevice(Protocol):
    """The device by which packets go on to other nodes."""

    def apply(self, plan: Envelope) -> int:
        """Make it so, and answer with the device's index. Idempotent. Raises KernelError."""
        ...

    def remove(self) -> None:
        """Take it away; already gone is success. Raises KernelError."""
        ...


class EgressWays(Protocol):
    """The rules and tables by which packets with a mark leave for another node."""

    def apply(self, ways: Collection[EgressWay], device: str, mtu: int) -> None:
        """Have these ways and no other of ours: a packet from a pod (it comes in by the bridge) with a way's
        mark goes to its gateway behind `device`, as long as it is of at most `mtu` octets; the sender of a
        longer one hears so. Idempotent; with no ways nothing is left. Raises KernelError."""
        ...


class Firewall(Protocol):
    """Our nftables table."""

    def apply(self, ruleset: str) -> None:
        """Replace the whole table in one transaction. Raises RefusedError; a KernelError that is none leaves
        it open what is in force."""
        ...

    def amend(self, transaction: str) -> None:
        """Change the table that is in force, all or nothing. Raises as `apply` does."""
        ...

    def intact(self) -> bool:
        """Whether the table is still as last applied."""
        ...

    def there(self) -> bool:
        """Whether there is a table at all. Raises KernelError."""
        ...

    def touched(self, generation: int | None) -> None:
        """The transaction that made this generation changed the table; None: some may have been missed."""
        ...

    def clients(self, names: Collection[str]) -> Mapping[str, Sequence[str]]:
        """The members of these sets that are there, as text that makes elements. Raises KernelError."""
        ...


class Connections(Protocol):
    """The connections that the kernel tracks."""

    def forget(self, stale: Collection[Stale]) -> None:
        """Delete those of a translation that has changed. Raises KernelError."""
        ...

    def forget_floating(self, holders: Mapping[Address, Address | None]) -> None:
        """Delete those that are translated from or to one of these addresses, but for those of the pod that
        has it (None: nobody here has). Raises KernelError."""
        ...

    def seen_as(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        """Those that others began, whose source is seen as one of these addresses. Raises KernelError."""
        ...

    def of(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        """Those that these addresses have part in, and that the host itself did not begin. Raises
        KernelError."""
        ...

    def end(self, connections: Collection[Tracked]) -> None:
        """Delete these; what is gone already is success. Raises KernelError."""
        ...

    def used_ports(self) -> Sequence[PortUse]:
        """Of each source address that stands for others, by protocol, the destination that takes the most of
        its ports; the fullest first. Raises KernelError."""
        ...

    def refused(self) -> Mapping[str, int]:
        """What tracking has refused since the host's start, by the kernel's names of it (insert_failed, drop,
        early_drop). Raises KernelError."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """The beginning of a packet that a rule logged: when (seconds since 1970, by the host's clock), the
    rule's prefix, and the octets from the IP header on."""

    when: float
    prefix: str
    packet: bytes


class PacketLog(Protocol):
    """What rules log of packets that policies drop. `problem` tells why it is not heard, though it should."""

    problem: str

    def start(self, heard: Callable[[LoggedPacket], None]) -> None:
        """Hear of each; where that cannot be, `problem` tells, and it may be tried again. A second time is no
        error."""
        ...

    def stop(self) -> None:
        """A second time is no error."""
        ...


class ServiceCounters(Protocol):
    """How many connections began to what services answer to: first packets, counted by the kernel. They
    outlive who asked for it."""

    def follow(self, wanted: Collection[ServerKey], ports_on: Collection[Prefix]) -> None:
        """Count for these, and no others; who is counted goes on. `ports_on`: where NodePorts are. Raises
        KernelError."""
        ...

    def change(self, come: Collection[ServerKey], gone: Collection[ServerKey]) -> None:
        """Count for some more, and for some no longer; nothing, where none are followed yet. Raises
        KernelError."""
        ...

    def read(self) -> Mapping[ServerKey, int]:
        """Of those followed; who has none may be left out. Raises KernelError."""
        ...


class Counters(Protocol):
    """The named counters of our nftables table."""

    def read(self) -> Mapping[str, int]:
        """Packets by the counter's name, since the table was made. Raises KernelError."""
        ...


class Discovery(Protocol):
    """The routers on links without addresses (RFC 4861). `changed` is called when one has come or gone."""

    changed: Callable[[], None]
    problems: dict[str, str]

    def watch(self, interfaces: Collection[str]) -> None: ...

    def routers(self, interface: str) -> tuple[IPv6Address, ...]: ...

    def close(self) -> None: ...


class ErrorHandOn(Protocol):
    """Hands ICMP errors about services on to the other nodes, and takes theirs. `is_service` tells whether an
    address is a service's."""

    is_service: Callable[[Address], bool]
    problem: str

    @property
    def port(self) -> int:
        """UDP; 0 while it does not run."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def update(self, nodes: Collection[Sequence[Address]], own: Sequence[Address]) -> None:
        """The addresses of every node, and this node's."""
        ...
