"""What ExaBGP 5.0.15 says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.bgp.path import Path
from l3net.model import Address, Family, Prefix

#: What ExaBGP shows for the next hop of an UPDATE that has none.
NO_NEXT_HOP = "no-nexthop"


@dataclass(frozen=True, slots=True)
class Done:
    """A command was queued (not yet sent)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command was refused."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A session's state: `up`, `down` or `connected`; `reason` with `down`."""

    peer: Address
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer's OPEN. `graceful_restart` is its restart time in seconds, None without the capability.

    `restarting`: its restart state bit; `preserved`: the families that its graceful restart capability lists,
    `forwarding` those of them whose forwarding state it has kept (the F bit, RFC 4724 section 3).
    `extended_next_hops`: whether it takes IPv6 next hops for IPv4 prefixes (RFC 8950). `families`: those it
    speaks (RFC 4760; IPv4 alone without the capability). `refresh`: whether it takes ROUTE-REFRESH (RFC
    2918). None of these three if that is not known. `capabilities`: what it has offered, in words.
    """

    peer: Address
    hold_time: int
    router_id: str
    graceful_restart: int | None
    restarting: bool = False
    forwarding: frozenset[Family] = frozenset()
    extended_next_hops: bool | None = None
    as_number: int = 0  # 0: not known
    families: frozenset[Family] | None = None
    preserved: frozenset[Family] = frozenset()
    refresh: bool | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Updated:
    """An UPDATE: paths announced and prefixes withdrawn."""

    peer: Address
    announced: tuple[Path, ...]
    withdrawn: tuple[Prefix, ...]
    withdrawn_paths: tuple[tuple[Prefix, str], ...] = ()  # with their path identifiers (RFC 7911)


@dataclass(frozen=True, slots=True)
class EndOfRib:
    peer: Address
    family: Family


@dataclass(frozen=True, slots=True)
class Refresh:
    """Demarcation of an enhanced route refresh (RFC 7313): `begin`, `end`, or a peer's `query`."""

    peer: Address
    family: Family
    subtype: str


@dataclass(frozen=True, slots=True)
class Notified:
    """A NOTIFICATION (RFC 4271 section 4.5); `received` False means we sent it.

    `text` is what the peer's operator says of a shutdown or reset (RFC 9003), printable.
    """

    peer: Address
    code: int
    subcode: int
    received: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Attempted:
    """A connection that ended before its session was up; `outgoing`: we dialled. `error` is printable."""

    peer: Address
    outgoing: bool
    error: str


@dataclass(frozen=True, slots=True)
class ReplayBegan:
    """What a peer has announced on its session follows, as UPDATEs. `lasted`: seconds that it has been up;
    `heard`: the families whose End-of-RIB has come. `token` is that of the question."""

    peer: Address
    token: str
    opened: Opened
    lasted: float
    heard: frozenset[Family]


@dataclass(frozen=True, slots=True)
class ReplayEnded:
    """It has all been told."""

    peer: Address
    token: str


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one peer: prefixes not yet written to its socket, and how long that has been stuck."""

    queued: int
    stuck: float  # seconds


@dataclass(frozen=True, slots=True)
class Queues:
    """Answer to `l3net peers`, by peer."""

    peers: Mapping[Address, Queue]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Answer to `show neighbor json`: whether each configured peer is established.

    `opened` is what is known of the OPEN of those that are, for an agent that came later than it.
    `loaded` are fingerprints of configurations: that of the file in force, for a moment the last one too.
    """

    established: Mapping[Address, bool]
    loaded: frozenset[str] = frozenset()
    opened: Mapping[Address, Opened] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Announced:
    """One line of the answer to `show adj-rib out json`."""

    peer: Address
    prefix: Prefix


Message: TypeAlias = (
    Done
    | Failed
    | StateChanged
    | Opened
    | Updated
    | EndOfRib
    | Refresh
    | Notified
    | Neighbors
    | Announced
    | Attempted
    | ReplayBegan
    | ReplayEnded
    | Queues
)
