"""What assignment has to say about a declared object: an enumerated reason, and a sentence for people."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model import Kind, ObjectName


class FindingReason(enum.Enum):
    """Why an object does not get, or is not, what was declared; the value is the reason in Events."""

    POOL_OVERLAPS_POOL = "PoolOverlapsPool"
    POOL_OVERLAPS_SERVICE_CIDR = "PoolOverlapsServiceCIDR"
    POOL_OVERLAPS_NODE = "PoolOverlapsNode"
    POOL_GONE = "PoolGone"
    ADDRESS_SHARED = "AddressShared"
    BLOCKS_OVERLAP = "BlocksOverlap"
    BLOCK_OVERLAPS_SERVICE_CIDR = "BlockOverlapsServiceCIDR"
    BLOCK_HOLDS_NODE = "BlockHoldsNode"
    MISSING_FILTER = "MissingFilter"
    NAMES_NO_NODE = "NamesNoNode"
    SELECTS_NO_NODE = "SelectsNoNode"
    BLOCK_OUTSIDE_POOLS = "BlockOutsidePools"
    BLOCK_CONFLICT = "BlockConflict"
    NO_BLOCK_FREE = "NoBlockFree"
    TOO_MANY_BLOCKS = "TooManyBlocks"
    INVALID_REQUEST = "InvalidRequest"
    ADDRESS_OUTSIDE_POOLS = "AddressOutsidePools"
    ADDRESS_IN_USE = "AddressInUse"
    NO_ADDRESS_FREE = "NoAddressFree"
    NOT_ADVERTISED = "NotAdvertised"
    CONFLICTING_SERVICE = "ConflictingService"
    FLOATING_REFUSED = "FloatingIPRefused"
    EGRESS_REFUSED = "EgressIPRefused"
    SELECTS_NO_PODS = "SelectsNoPods"
    UNKNOWN_PORT_NAME = "UnknownPortName"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One thing found; `about` names the object."""

    kind: Kind
    about: ObjectName
    reason: FindingReason
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.about}: {self.reason.value}: {self.message}"
