"""What came of the addresses of EgressIPs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.floating.holding import State
from l3net.model import Address


class Reason(enum.Enum):
    """Why an address is as it is; the value is status.reason of an EgressIP."""

    HELD = ""
    NO_ADDRESS = "NoAddress"
    NO_NODE = "NoNode"
    NOT_READY = "NoNodeReady"
    OUTSIDE_POOLS = "OutsidePools"
    CONFLICT = "Conflict"
    SERVICE = "ServiceAddress"
    NODE = "NodeAddress"
    BLOCK = "PodAddress"
    FLOATING = "FloatingAddress"

    @property
    def state(self) -> State:
        if self is Reason.HELD:
            return State.HELD
        waiting = (Reason.NO_ADDRESS, Reason.NO_NODE, Reason.NOT_READY)
        return State.WAITING if self in waiting else State.REFUSED


@dataclass(frozen=True, slots=True)
class EgressHolding:
    """What came of one address of an EgressIP (`by`): the node that holds it or, where none does, `why`."""

    address: Address
    by: str
    reason: Reason = Reason.HELD
    why: str = ""
    node: str = ""

    @property
    def held(self) -> bool:
        return self.reason is Reason.HELD
