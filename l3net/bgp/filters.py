"""BGPFilters: whether a rule matches a path, and what an accepting one changes on it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from l3net.addresses import contains
from l3net.bgp.path import Attributes, Path
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.community import AnyCommunity, ExtendedCommunity
from l3net.model import (
    Action,
    Address,
    BgpFilter,
    FilterRule,
    Operations,
    Prefix,
    PrefixOperator,
)


def rule_matches(rule: FilterRule, path: Path, *, external: bool) -> bool:
    """Whether every condition the rule names holds for the path."""
    return prefix_matches(rule, path.prefix) and rest_matches(rule, path.attributes, external=external)


def prefix_matches(rule: FilterRule, prefix: Prefix) -> bool:
    """Whether what the rule asks of the prefix holds."""
    if rule.cidr is not None:
        if rule.cidr.version != prefix.version:
            return False
        match rule.operator:
            case PrefixOperator.EQUAL:
                matched = prefix == rule.cidr
            case PrefixOperator.NOT_EQUAL:
                matched = prefix != rule.cidr
            case PrefixOperator.IN:
                matched = contains(rule.cidr, prefix)
            case PrefixOperator.NOT_IN:
                matched = not contains(rule.cidr, prefix)
        if not matched:
            return False
    if rule.min_length is not None and prefix.prefixlen < rule.min_length:
        return False
    return rule.max_length is None or prefix.prefixlen <= rule.max_length


def rest_matches(rule: FilterRule, attributes: Attributes, *, external: bool) -> bool:
    """Whether what the rule asks of all but the prefix holds."""
    if rule.external is not None and rule.external is not external:
        return False
    if not rule.communities <= attributes.communities:
        return False
    return attributes.as_path[: len(rule.as_path_prefix)] == rule.as_path_prefix


def apply_operations(attributes: Attributes, operations: Operations) -> Attributes:
    """The attributes after an accepting rule's operations."""
    if operations == Operations():
        return attributes
    return replace(
        attributes.prepended(operations.prepend),
        communities=_communities(attributes.communities, operations),
        local_preference=(
            operations.local_preference
            if operations.local_preference is not None
            else attributes.local_preference
        ),
        med=operations.med if operations.med is not None else attributes.med,
    )


def _communities(carried: frozenset[AnyCommunity], operations: Operations) -> frozenset[AnyCommunity]:
    if operations.set_communities is not None:
        carried = operations.set_communities
    carried -= operations.remove_communities
    if any(_is_bandwidth(community) for community in operations.add_communities):
        carried = frozenset(community for community in carried if not _is_bandwidth(community))
    return carried | operations.add_communities


def _is_bandwidth(community: AnyCommunity) -> bool:
    """A path has one bandwidth: a new one takes the place of the old."""
    return isinstance(community, ExtendedCommunity) and community.is_link_bandwidth


def run_filters(
    filters: Mapping[str, BgpFilter], session: Session, path: Path, *, importing: bool
) -> tuple[Judgement, Path]:
    """Ordered filters of ordered rules; the first rule that matches ends the search. No match accepts."""
    judgement, path = first_match(filters, session, path, importing=importing)
    return judgement or ACCEPTED, path


def first_match(
    filters: Mapping[str, BgpFilter], session: Session, path: Path, *, importing: bool
) -> tuple[Judgement | None, Path]:
    """What the first rule that matches says; None if there is none."""
    for name in session.filters:
        declared = filters.get(name)
        if declared is None:
            return Judgement(Verdict.FILTERED, name), path
        for rule in declared.imports if importing else declared.exports:
            if not rule_matches(rule, path, external=session.external):
                continue
            if rule.action is Action.REJECT:
                return Judgement(Verdict.FILTERED, name), path
            return ACCEPTED, replace(path, attributes=apply_operations(path.attributes, rule.operations))
    return None, path


class Alike:
    """`run_filters` of paths of one session that differ in nothing but the prefix: what rules ask of all
    else, and what they make of it, is found out once."""

    def __init__(
        self, filters: Mapping[str, BgpFilter], session: Session, attributes: Attributes, *, importing: bool
    ) -> None:
        self._attributes = attributes
        #: Which prefixes a rule is for (None: every one), and what comes of it.
        self._steps: list[tuple[Callable[[Prefix], bool] | None, Judgement, Attributes]] = []
        for name in session.filters:
            declared = filters.get(name)
            refused = Judgement(Verdict.FILTERED, name)
            if declared is None:
                self._steps.append((None, refused, attributes))
                return
            for rule in declared.imports if importing else declared.exports:
                if not rest_matches(rule, attributes, external=session.external):
                    continue
                matches = _matching(rule)
                if rule.action is Action.REJECT:
                    self._steps.append((matches, refused, attributes))
                else:
                    self._steps.append((matches, ACCEPTED, apply_operations(attributes, rule.operations)))

    def run(self, prefix: Prefix) -> tuple[Judgement, Attributes]:
        """What becomes of a path to it, and its attributes then."""
        for matches, judgement, attributes in self._steps:
            if matches is None or matches(prefix):
                return judgement, attributes
        return ACCEPTED, self._attributes


def _matching(rule: FilterRule) -> Callable[[Prefix], bool] | None:
    """What `prefix_matches` says of this rule; None: it holds for every prefix."""
    cidr, low, high = rule.cidr, rule.min_length, rule.max_length
    if cidr is None and low is None and high is None:
        return None
    if cidr is None or rule.operator is not PrefixOperator.IN:
        return functools.partial(prefix_matches, rule)
    kind: type[Address] = IPv4Address if cidr.version == 4 else IPv6Address
    bits = cidr.max_prefixlen
    shift = bits - cidr.prefixlen
    above = int(cidr.network_address) >> shift
    shortest = max(cidr.prefixlen, low or 0)
    longest = bits if high is None else high

    def inside(prefix: Prefix) -> bool:
        address = prefix.network_address
        return (
            isinstance(address, kind)
            and shortest <= prefix.prefixlen <= longest
            and int(address) >> shift == above
        )

    return inside
