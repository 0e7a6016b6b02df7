"""BGP paths and their attributes (RFC 4271 section 5)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from l3net.community import AnyCommunity, ExtendedCommunity
from l3net.model import Address, Prefix


class Origin(enum.IntEnum):
    """ORIGIN, lower is preferred (RFC 4271 section 9.1.2.2 b)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True)
class Attributes:
    """Path attributes, shared by all prefixes of an UPDATE.

    `as_path` is flat, nearest AS first; `as_path_length` counts an AS_SET as one (RFC 4271
    section 9.1.2.2 a).
    None means that the attribute is absent. `originator` and `clusters` are RFC 4456's. `confederation`: the
    AS_PATH holds a segment of RFC 5065, whose numbers are in `as_path` too.
    """

    origin: Origin = Origin.IGP
    as_path: tuple[int, ...] = ()
    as_path_length: int = field(default=-1)
    local_preference: int | None = None
    med: int | None = None
    communities: frozenset[AnyCommunity] = frozenset()
    originator: IPv4Address | None = None
    clusters: tuple[IPv4Address, ...] = ()
    confederation: bool = False

    def __post_init__(self) -> None:
        if self.as_path_length < 0:
            object.__setattr__(self, "as_path_length", len(self.as_path))

    @property
    def link_bandwidth(self) -> float | None:
        """Octets per second, by the link bandwidth community (draft-ietf-idr-link-bandwidth); the least of
        several, None without one."""
        found = [
            community.link_bandwidth
            for community in self.communities
            if isinstance(community, ExtendedCommunity)
        ]
        return min((speed for speed in found if speed is not None), default=None)


@dataclass(frozen=True, slots=True)
class Path:
    """One way to a prefix, as announced by us or learned from a peer."""

    prefix: Prefix
    next_hop: Address
    attributes: Attributes = Attributes()
    path_id: str = ""  # RFC 7911, on sessions with add-path
