"""BGPFilters: rules for what is imported and exported."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.community import AnyCommunity
from l3net.model.terms import Prefix


class Action(enum.Enum):
    ACCEPT = "Accept"
    REJECT = "Reject"


class PrefixOperator(enum.Enum):
    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


@dataclass(frozen=True, slots=True)
class Operations:
    """What an accepting rule changes on the path; of communities what is set, then removed, then added."""

    add_communities: frozenset[AnyCommunity] = frozenset()
    prepend: tuple[int, ...] = ()
    local_preference: int | None = None
    med: int | None = None
    set_communities: frozenset[AnyCommunity] | None = None  # these and no others
    remove_communities: frozenset[AnyCommunity] = frozenset()


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: every condition given must hold; the first rule that matches ends the search."""

    action: Action
    cidr: Prefix | None = None
    operator: PrefixOperator = PrefixOperator.IN
    min_length: int | None = None
    max_length: int | None = None
    external: bool | None = None  # peerType: True eBGP, False iBGP
    communities: frozenset[AnyCommunity] = frozenset()  # the path carries all of them
    as_path_prefix: tuple[int, ...] = ()
    operations: Operations = Operations()


@dataclass(frozen=True, slots=True)
class BgpFilter:
    """A BGPFilter: ordered rules for each direction; a path no rule matches goes on to the next filter."""

    name: str
    imports: tuple[FilterRule, ...] = ()
    exports: tuple[FilterRule, ...] = ()
