"""BGP paths and their attributes (RFC 4271 section 5)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, cast

from l3net.community import AnyCommunity, ExtendedCommunity
from l3net.model import Address, Prefix

#: RFC 4271 section 4.3 b.
_AS_SEQUENCE = 2


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
    AS_PATH holds a segment of RFC 5065, whose numbers are in `as_path` too. `segments`: type and length of
    each, where all is not one AS_SEQUENCE (l3net.bgp.segments).
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
    segments: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.as_path_length < 0:
            object.__setattr__(self, "as_path_length", len(self.as_path))

    def prepended(self, numbers: tuple[int, ...]) -> Attributes:
        """The same with AS numbers before the path (RFC 4271 section 5.1.2)."""
        if not numbers:
            return self
        segments = self.segments
        if segments:
            kind, count = segments[0]
            begun = kind == _AS_SEQUENCE
            before = (_AS_SEQUENCE, len(numbers) + (count if begun else 0))
            segments = (before, *(segments[1:] if begun else segments))
        return replace(
            self,
            as_path=numbers + self.as_path,
            as_path_length=len(numbers) + self.as_path_length,
            segments=segments,
        )

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


class _Made:
    """A path that is filled in yet."""

    __slots__ = ("attributes", "next_hop", "path_id", "prefix")


def path_to(prefix: Prefix, next_hop: Address, attributes: Attributes, path_id: str = "") -> Path:
    """A path. Of a table there are 100,000: a frozen dataclass takes twice as long to be made as one that
    is filled in and then becomes it, which Python allows where the slots are the same."""
    made: Any = _Made()
    made.prefix, made.next_hop, made.attributes, made.path_id = prefix, next_hop, attributes, path_id
    made.__class__ = Path
    return cast(Path, made)


@dataclass(frozen=True, slots=True)
class Said:
    """What a peer says of prefixes of a family at once, as UPDATEs do: paths that differ in nothing else."""

    next_hop: Address
    attributes: Attributes
    prefixes: tuple[Prefix, ...]
    path_id: str = ""

    def paths(self) -> Iterator[Path]:
        """One by one."""
        hop, attributes, path_id = self.next_hop, self.attributes, self.path_id
        return (path_to(prefix, hop, attributes, path_id) for prefix in self.prefixes)


def gathered(paths: Iterable[Path]) -> Iterator[Said]:
    """The same, what is alike and comes in a row together."""
    run: list[Path] = []
    for path in paths:
        if run and not _alike(run[0], path):
            yield _said(run)
            run = []
        run.append(path)
    if run:
        yield _said(run)


def _alike(one: Path, other: Path) -> bool:
    return (one.next_hop, one.attributes, one.path_id, one.prefix.version) == (
        *(other.next_hop, other.attributes, other.path_id, other.prefix.version),
    )


def _said(run: list[Path]) -> Said:
    first = run[0]
    return Said(first.next_hop, first.attributes, tuple(path.prefix for path in run), first.path_id)
