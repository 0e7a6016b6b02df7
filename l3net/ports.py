"""The Protocols that shells implement and tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Protocol, TypeAlias

from l3net.bgp.drain import DrainRecord
from l3net.delta import Delta
from l3net.errors import KernelError, ManifestError
from l3net.fib.underlay import HostLink, Underlay
from l3net.model import Address, BridgePlan, Fact, Kind, ObjectName, Prefix, Route, Stale

RouteKey: TypeAlias = tuple[Prefix, int]  # prefix and metric


@dataclass(frozen=True, slots=True)
class Changed:
    """A declared object as it is now; `fact` None means it is gone."""

    kind: Kind
    name: ObjectName
    fact: Fact | None


@dataclass(frozen=True, slots=True)
class InSync:
    """Everything that existed when the datastore was opened has been delivered. Sent once."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that cannot be used; the last good version stays in force.

    `where` is the file (with document number or line) or API path; `field` a path such as `spec.cidr`.
    `partly`: only the element `field` is left out, and the rest of the object is in force. `about` is the
    object that cannot be used; `unknown`: it cannot be told which objects, as of a file that is unreadable.
    """

    where: str
    field: str
    why: str
    partly: bool = False
    about: tuple[Kind, ObjectName] | None = None
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.field + ': ' if self.field else ''}{self.why}"

    def hides(self, kind: Kind, name: ObjectName) -> bool:
        """Whether this object may be declared in what cannot be used."""
        return self.unknown or self.about == (kind, name)


#: Elements of one object that are named one by one; the rest are counted.
MOST_NAMED: Final = 8


def rejections(
    where: str,
    error: ManifestError | None,
    skipped: Sequence[ManifestError] = (),
    about: tuple[Kind, ObjectName] | None = None,
) -> tuple[Rejected, ...]:
    """What is wrong with an object: all of it, or single elements that are left out."""
    if error is not None:
        return (Rejected(where, error.field, error.why, about=about),)
    named = [Rejected(where, each.field, f"{each.why}; left out, the rest is used", True) for each in skipped]
    if len(named) > MOST_NAMED:
        more = Rejected(where, "", f"{len(named) - MOST_NAMED} more elements are left out", True)
        named = [*named[:MOST_NAMED], more]
    return tuple(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class Mended:
    """What was rejected is so no longer."""

    rejected: Rejected


@dataclass(frozen=True, slots=True)
class View:
    """How old what a datastore knows of a kind is: seconds since its last list and its last bookmark.

    None: there was none yet.
    """

    list_age: float | None
    bookmark_age: float | None


DatastoreEvent: TypeAlias = Changed | InSync | Rejected | Mended


class Datastore(Protocol):
    """The declared state, as a stream: the current objects, `InSync`, then every change."""

    def events(self) -> AsyncIterator[DatastoreEvent]: ...


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A link, or an address on it, has changed; its name, None when it is not known any more."""

    name: str | None


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
class NoticesLost:
    """Notifications were lost: everything is to be read again."""


KernelNotice: TypeAlias = LinkSeen | OwnRouteSeen | RouteSeen | TableSeen | NoticesLost


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

    def apply(self, delta: Delta[tuple[Prefix, int], Route]) -> dict[tuple[Prefix, int], KernelError]:
        """Carry out what can be, in the order given, puts first; return what failed."""
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


class Stream(Protocol):
    """A connection to another process of this node, made again whenever it ends."""

    @property
    def up(self) -> bool: ...

    def send(self, data: bytes) -> None:
        """Queue bytes; dropped without a connection: `connected` says all anew."""
        ...

    def send_line(self, line: str) -> None:
        """Queue a line of ASCII."""
        ...

    async def run(self) -> None:
        """Until cancelled."""
        ...


class Connect(Protocol):
    """Makes a Stream: `connected` is called with each new connection, `received` with bytes, `lost` when it
    ends."""

    def __call__(
        self, connected: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> Stream: ...


class SpeakerFiles(Protocol):
    """ExaBGP's configuration on disk, and its sign of life."""

    @property
    def relay(self) -> Sequence[str]:
        """The relay as ExaBGP runs it."""
        ...

    @property
    def unconfirmed(self) -> bool:
        """Whether the file was replaced and ExaBGP has not been seen to take it."""
        ...

    def confirm(self) -> None: ...

    def alive(self) -> bool:
        """Whether a speaker of this release has ever answered."""
        ...

    def current(self) -> str | None:
        """Raises ConfigError."""
        ...

    async def refused(self, head: str, blocks: Sequence[str]) -> frozenset[str]:
        """Which blocks ExaBGP itself refuses to read. Raises SpeakerError."""
        ...

    async def replace(self, text: str) -> None:
        """Whole or not at all. Raises SpeakerError."""
        ...


class DrainMemory(Protocol):
    """Who wants the node to leave, and how far it has come: kept over an agent's restart."""

    def now(self) -> float:
        """Seconds since boot, time asleep included."""
        ...

    def asked(self) -> bool:
        """Whether somebody wants the node to leave."""
        ...

    def read(self) -> DrainRecord | None: ...

    def write(self, record: DrainRecord | None) -> None:
        """Raises L3netError."""
        ...


class RouteMemory(Protocol):
    """The routes that the last agent of this boot wanted in the kernel."""

    def read(self) -> Mapping[RouteKey, Route]: ...

    def write(self, routes: Mapping[RouteKey, Route]) -> None:
        """Raises L3netError."""
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


class Process(Protocol):
    """What the kernel says of this process: bytes and seconds."""

    @property
    def pid(self) -> int: ...

    def peak_memory(self) -> int: ...

    def resident(self) -> int: ...

    def cpu_seconds(self) -> float: ...

    def uptime(self) -> float: ...


class Manifests(Protocol):
    """A directory of manifests, looked at once."""

    def look(self) -> Iterable[DatastoreEvent]: ...

    @property
    def broken(self) -> Collection[tuple[Kind, ObjectName] | None]:
        """Objects that cannot be used; None: those of a file that cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class LeaderLease:
    """A Lease (coordination.k8s.io/v1) as read. `duration` in seconds, `version` its resourceVersion.

    An empty `holder` has let go of it; an empty `version`: there is none yet.
    """

    holder: str = ""
    duration: int = 15
    transitions: int = 0
    version: str = ""


class LeaseCell(Protocol):
    """One Lease, of which each write happens only if nobody wrote since it was read."""

    def read(self) -> LeaderLease:
        """Raises L3netError."""
        ...

    def write(self, lease: LeaderLease) -> LeaderLease:
        """Write over what `lease.version` names; the lease as it is now. Raises ConflictError, L3netError."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a status (Kubernetes API conventions), less its times.

    `if_said`: only where the status has one of this type already, since that all is well is no news.
    """

    type: str
    holds: bool
    reason: str
    message: str = ""
    if_said: bool = False


class ClusterWriter(Protocol):
    """What the controller reads and writes of single objects, each write on the version just read.

    Calls block, may come from several threads, and raise GoneError, ConflictError or another L3netError.
    """

    def read_ledger(self) -> tuple[Mapping[str, str], str]:
        """The ledger's texts and version; empty both when there is none."""
        ...

    def write_ledger(self, values: Mapping[str, str], version: str) -> str:
        """Write over exactly this version (empty: create); the new one. Raises ConflictError."""
        ...

    def exists(self, kind: Kind, name: ObjectName) -> bool:
        """Ask the API server itself, whatever a watch said."""
        ...

    def set_blocks(self, node: str, blocks: tuple[Prefix, ...]) -> None:
        """Into spec.podCIDRs while that is empty (it is immutable then), the rest by annotation."""
        ...

    def set_load_balancer(self, service: ObjectName, addresses: tuple[Address, ...]) -> None:
        """Replace status.loadBalancer.ingress."""
        ...

    def set_status(
        self, kind: Kind, name: ObjectName, fields: Mapping[str, object], conditions: tuple[Condition, ...]
    ) -> None:
        """Merge fields and conditions into the status of a resource of ours; nothing is sent if it is so."""
        ...

    def prune_sessions(self, peer: str, nodes: Collection[str]) -> None:
        """Take the sessions of nodes that are none of these out of a BGPPeer's status."""
        ...

    def post_event(self, kind: Kind, name: ObjectName, reason: str, message: str) -> None:
        """A Warning Event; the same again moves the time of the one there is."""
        ...
