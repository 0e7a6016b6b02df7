"""Who asks for a floating address, and what came of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model import Address, Kind, ObjectName


class State(enum.Enum):
    """How an address fares (the value is status.state of a FloatingIP, and of an EgressIP)."""

    HELD = "Held"
    WAITING = "Waiting"  # it is the claimant's, and no pod, or node, can have it
    REFUSED = "Refused"  # it is not the claimant's


class Reason(enum.Enum):
    """Why an address is as it is; the value is status.reason of a FloatingIP."""

    HELD = ""
    NO_ADDRESS = "NoAddress"
    NO_POD = "NoPod"
    NOT_READY = "NoPodReady"
    NO_FAMILY = "PodLacksFamily"
    HOST_NETWORK = "PodOnHostNetwork"
    OUTSIDE_POOLS = "OutsidePools"
    NAMESPACE = "NamespaceNotAllowed"
    CONFLICT = "Conflict"
    SERVICE = "ServiceAddress"
    NODE = "NodeAddress"
    BLOCK = "PodAddress"

    @property
    def state(self) -> State:
        if self is Reason.HELD:
            return State.HELD
        return State.WAITING if self in _WAITING else State.REFUSED


_WAITING = frozenset(
    (Reason.NO_ADDRESS, Reason.NO_POD, Reason.NOT_READY, Reason.NO_FAMILY, Reason.HOST_NETWORK)
)


@dataclass(frozen=True, slots=True, order=True)
class Claimant:
    """Who asks: a FloatingIP, or a Pod by its annotation. `kind` is the Kubernetes kind."""

    kind: str
    name: ObjectName

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


FLOATING_IP = Kind.FLOATING_IP.value
POD = Kind.POD.value


@dataclass(frozen=True, slots=True)
class Holding:
    """What came of one claim to one address. `pod`, `node` and `target` (the pod's own address): who has it;
    of a claim for which nobody does, `why` says it in words. `created`: when the claim was made."""

    address: Address
    by: Claimant
    reason: Reason = Reason.HELD
    why: str = ""
    pod: ObjectName | None = None
    node: str = ""
    target: Address | None = None
    created: str = ""

    @property
    def held(self) -> bool:
        return self.reason is Reason.HELD
