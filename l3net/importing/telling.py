"""What one peer is told and what is taken of it, as rules of a BGPFilter: for sources in which a peer hears
what is named for it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from l3net.addresses import prefix_order
from l3net.community import AnyCommunity
from l3net.importing.source import Imported, object_name
from l3net.model import Action, BgpFilter, BgpPeer, FilterRule, Operations, Prefix, PrefixOperator

_REJECT = FilterRule(Action.REJECT)


@dataclass(frozen=True, slots=True)
class Told:
    """Prefixes inside `cidr`, of these lengths (None: any), and the attributes that they are told with; or,
    with `withheld`, that they are not told although others around them are."""

    cidr: Prefix
    shortest: int | None = None
    longest: int | None = None
    communities: frozenset[AnyCommunity] = frozenset()
    local_preference: int | None = None
    withheld: bool = False


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
    """The first rule alone counts: what means the same prefixes is one, with the attributes of all, and what
    means fewer stands before what means more."""
    found: dict[tuple[Prefix, int | None, int | None], Told] = {}
    for one in sorted(told, key=lambda one: one.withheld):
        place = one.cidr, one.shortest, one.longest
        other = found.setdefault(place, one)
        if not one.withheld:
            preferences = {one.local_preference, other.local_preference} - {None}
            found[place] = replace(
                one,
                communities=one.communities | other.communities,
                local_preference=max(filter(None, preferences), default=None),
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
        Action.REJECT if told.withheld else Action.ACCEPT,
        told.cidr,
        operator=PrefixOperator.EQUAL if whole else PrefixOperator.IN,
        min_length=None if whole else told.shortest,
        max_length=None if whole else told.longest,
        operations=Operations(add_communities=told.communities, local_preference=told.local_preference),
    )
