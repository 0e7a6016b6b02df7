"""IPPools."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import Prefix


class PoolUse(enum.Enum):
    PODS = "Pods"
    LOAD_BALANCER = "LoadBalancer"
    FLOATING = "Floating"
    EGRESS = "Egress"


@dataclass(frozen=True, slots=True)
class IpPool:
    """An IPPool: the CIDR that node blocks or load-balancer addresses come from.

    `nat_excepts`: destinations to which pods keep their own addresses although `nat_outgoing`.
    `allowed_sources`: what every pod with an address of it may send from beside its own.
    """

    name: str
    cidr: Prefix
    block_size: int
    nat_outgoing: bool = False
    nat_excepts: tuple[Prefix, ...] = ()
    disabled: bool = False
    advertise: bool = True
    node_selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    allowed_uses: frozenset[PoolUse] = frozenset({PoolUse.PODS})
    allowed_sources: tuple[Prefix, ...] = ()
