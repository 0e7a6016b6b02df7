"""What ExaBGP 5.0.15 says, as values: answers, what is replayed, and the events of any speaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.bgp.bmp.messages import Opens
from l3net.bgp.events import Attempted, EndOfRib, Notified, Opened, Refresh, StateChanged, Updated
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
class MessageCounts:
    """BGP messages on the session, or the attempt at one, by type (`open`, `update`, `keepalive`...)."""

    sent: Mapping[str, int]
    received: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one peer: prefixes not yet written to its socket, and how long that has been stuck; what
    has been exchanged with it."""

    queued: int
    stuck: float  # seconds
    messages: MessageCounts | None = None  # None: the speaker is older than we are
    fsm: str = ""  # state of the session as ExaBGP has it (RFC 4271 section 8.2.2), in lower case


@dataclass(frozen=True, slots=True)
class Queues:
    """Answer to `l3net peers`, by peer."""

    peers: Mapping[Address, Queue]


@dataclass(frozen=True, slots=True)
class OpensTold:
    """Answer to `l3net opens`, by peer."""

    peers: Mapping[Address, Opens]


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
    | OpensTold
)
