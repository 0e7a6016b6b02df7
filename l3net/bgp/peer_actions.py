"""What a peer's machine (`l3net.bgp.peering`) has done: values, which its caller carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from l3net.model import Family


@dataclass(frozen=True, slots=True)
class Keep:
    """Mark the paths of these families stale."""

    families: frozenset[Family]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Drop the stale paths of these families; `why`, for the log, if that is no matter of course."""

    families: frozenset[Family]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop all paths of these families; `why`, for the log, if that is no matter of course."""

    families: frozenset[Family]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the peer what it is wanted to have; `fresh`: it has been told nothing on this session."""

    fresh: bool


@dataclass(frozen=True, slots=True)
class Silence:
    """The session is down: tell nothing."""


@dataclass(frozen=True, slots=True)
class AskReceived:
    """Have the speaker tell all that the peer has announced."""


@dataclass(frozen=True, slots=True)
class AskRefresh:
    """Ask the peer for all it has of a family (RFC 2918)."""

    family: Family


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Say by `refresh_answered` whether stale paths of a family are left."""

    family: Family


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraw everything: the session is about to be closed."""


@dataclass(frozen=True, slots=True)
class TearDown:
    """Close the session: Cease with this subcode."""

    subcode: int


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Which sessions ExaBGP shall have has changed, or will after `seconds`."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log, at a level of `logging`."""

    level: int
    text: str


Action: TypeAlias = (
    Keep
    | Sweep
    | Drop
    | Announce
    | Silence
    | AskReceived
    | AskRefresh
    | LookAgain
    | Withdraw
    | TearDown
    | Reconfigure
    | Say
)
