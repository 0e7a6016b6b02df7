"""What FloatingIPs are given, and what their status says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from l3net.controller.declared import Declared
from l3net.floating.declared import book_of
from l3net.floating.holding import FLOATING_IP, POD, Claimant, Holding, Reason, State
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import Address, ClusterState, FloatingIp, Kind, ObjectName
from l3net.ports import Condition

#: The condition of a FloatingIP that tells whether a pod has its addresses.
HELD = "Held"


@dataclass(frozen=True, slots=True)
class FloatingStatus:
    """The status of a FloatingIP, but for since when it is so. `reason` and `message`: why nobody has the
    addresses, or one of them."""

    addresses: tuple[Address, ...]
    pod: str = ""
    node: str = ""
    state: State = State.HELD
    reason: str = ""
    message: str = ""

    @property
    def condition(self) -> Condition:
        holds = self.state is State.HELD
        return Condition(HELD, holds, self.reason or "Held", self.message)

    @property
    def fields(self) -> dict[str, Any]:
        """As the API has them; what is empty is taken out."""
        return {
            "addresses": [str(address) for address in self.addresses] or None,
            "pod": self.pod or None,
            "node": self.node or None,
            "state": self.state.value,
            "reason": self.reason or None,
        }


def named(declared: Declared) -> frozenset[Address]:
    """Addresses that FloatingIPs and Pods ask for by name. It looks at every Pod."""
    asked = (pod.floating for pod in declared.pods.values() if pod.floating)
    wanted = (fact.wanted for fact in declared.floating.values())
    return frozenset(address for each in (*wanted, *asked) for address in each)


def floating_statuses(
    state: ClusterState, by_name: Collection[Address]
) -> tuple[dict[ObjectName, FloatingStatus], list[Contradiction]]:
    """What each FloatingIP of a state is told; and what is refused, for Events: of Pods that ask by
    annotation too."""
    if not state.floating and not by_name:
        return {}, []
    book = book_of(state)
    findings = [
        Contradiction(
            Kind(by.kind), by.name, FindingReason.FLOATING_REFUSED, f"{each.reason.value}: {each.why}"
        )
        for by in sorted(book.claimants)
        for each in book.verdicts(by)
        if each.reason.state is State.REFUSED and by.kind in (FLOATING_IP, POD)
    ]
    found = {
        name: _status(fact, book.verdicts(Claimant(FLOATING_IP, name)))
        for name, fact in state.floating.items()
    }
    return found, findings


def _status(fact: FloatingIp, holdings: tuple[Holding, ...]) -> FloatingStatus:
    held = next((each for each in holdings if each.held), None)
    failed = next((each for each in holdings if not each.held), None)
    missing = len(fact.addresses) < len(fact.wanted) + len(fact.versions)
    reason, why = (failed.reason, failed.why) if failed is not None else (Reason.HELD, "")
    if failed is None and missing:
        reason, why = Reason.NO_ADDRESS, "it names no address, and has been given none"
    state = State.HELD if held is not None else reason.state
    return FloatingStatus(
        fact.addresses,
        held.pod.name if held is not None and held.pod is not None else "",
        held.node if held is not None else "",
        state,
        reason.value,
        why,
    )
