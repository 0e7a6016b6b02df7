"""What happens to a session, in no speaker's words."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.bgp.path import Path, Said
from l3net.model import Address, Family, Prefix


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
    `software`: what it says that it runs (draft-abraitis-bgp-version-capability); empty where it does not.
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
    software: str = ""


@dataclass(frozen=True, slots=True)
class Updated:
    """An UPDATE: what is said of prefixes, and prefixes withdrawn."""

    peer: Address
    said: tuple[Said, ...]
    withdrawn: tuple[Prefix, ...]
    withdrawn_paths: tuple[tuple[Prefix, str], ...] = ()  # with their path identifiers (RFC 7911)

    @property
    def announced(self) -> tuple[Path, ...]:
        """The paths, one by one."""
        return tuple(path for said in self.said for path in said.paths())


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
