"""What one peer is told and what is taken of it, as rules of a BGPFilter: for sources in which a peer hears
what is named for it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from l3net.addresses import contains, prefix_order
from l3net.community import AnyCommunity
from l3net.importing.source import Imported, object_name
from l3net.model import Action, BgpFilter, BgpPeer, FilterRule, Operations, Prefix, PrefixOperator

_REJECT = FilterRule(Action.REJECT)


@dataclass(frozen=True, slots=True)
class Told:
    """Prefixes inside `cidr`, of these lengths (None: any), and the attributes that they are told with."""

    cidr: Prefix
    shortest: int | None = None
    longest: int | None = None
    communities: frozenset[AnyCommunity] = frozenset()
    local_preference: int | None = None

    def covers(self, other: Told) -> bool:
        """Whether all that `other` means is meant by this too."""
        low, high = self.shortest or 0, self.cidr.max_prefixlen if self.longest is None else self.longest
        return (
            contains(self.cidr, other.cidr)
            and low <= max(other.shortest or 0, other.cidr.prefixlen)
            and high >= (other.cidr.max_prefixlen if other.longest is None else other.longest)
        )


@dataclass(slots=True)
class Peering:
    """A peer, what it is told, and what is taken of it (`taken`, rules that accept)."""

    peer: BgpPeer
    told: list[Told] = field(default_factory=list)
    taken: list[FilterRule] = field(default_factory=list)


def hosts(cidr: Prefix) -> Told:
    """The host routes inside it."""
    return Told(cidr, shortest=cidr.max_prefixlen)


def declare(into: Imported, prefix: str, peerings: Iterable[Peering]) -> None:
    """Put peers and their filters into `into`. What else of the peer holds stays; a filter comes last."""
    for each in peerings:
        name = object_name(prefix, each.peer.name)
        into.filters[name] = BgpFilter(
            name,
            imports=(*each.taken, _REJECT),
            exports=(*map(_rule, _all(each.told)), _REJECT),
        )
        into.add_peer(replace(each.peer, filters=(*each.peer.filters, name)))


def _all(told: list[Told]) -> list[Told]:
    """The first rule alone counts: each has the attributes of all that mean the same prefixes, and those
    that mean fewer stand before those that mean more."""
    found: dict[tuple[Prefix, int | None, int | None], Told] = {}
    for one in told:
        others = [other for other in told if other.covers(one)]
        preferences = [other.local_preference for other in others if other.local_preference is not None]
        found[one.cidr, one.shortest, one.longest] = replace(
            one,
            communities=frozenset(tag for other in others for tag in other.communities),
            local_preference=max(preferences, default=None),
        )
    return sorted(
        found.values(),
        key=lambda one: (
            prefix_order(one.cidr)[0],
            -one.cidr.prefixlen,
            prefix_order(one.cidr),
            -(one.shortest or 0),
        ),
    )


def _rule(told: Told) -> FilterRule:
    whole = told.longest is not None and told.longest == told.cidr.prefixlen
    return FilterRule(
        Action.ACCEPT,
        told.cidr,
        operator=PrefixOperator.EQUAL if whole else PrefixOperator.IN,
        min_length=None if whole else told.shortest,
        max_length=None if whole else told.longest,
        operations=Operations(add_communities=told.communities, local_preference=told.local_preference),
    )
