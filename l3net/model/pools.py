"""IPPools."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import Address, Prefix


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
    `avoid_buggy`: single IPv4 addresses that end in .0 or .255 are given to nobody who does not ask for them.
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
    avoid_buggy: bool = True

    def avoids(self, address: Address) -> bool:
        """Whether the pool gives this address only to who asks for it: old routers and firewalls drop what
        they take for the network's or broadcast address of a class C network. Of a pool of one or two
        addresses all are given."""
        return (
            self.avoid_buggy
            and address.version == 4
            and self.cidr.num_addresses > 2
            and int(address) & 0xFF in (0, 0xFF)
        )
