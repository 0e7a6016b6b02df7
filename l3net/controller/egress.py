"""What EgressIPs are given, and what their status says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from l3net.controller.declared import Declared
from l3net.egress.declared import book_of, taken_in
from l3net.egress.holding import EgressHolding, Reason
from l3net.floating.holding import State
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import Address, ClusterState, EgressIp, Kind, ObjectName
from l3net.ports import Condition

#: The condition of an EgressIP that tells whether a node holds an address of it.
HELD = "Held"


@dataclass(frozen=True, slots=True)
class EgressStatus:
    """The status of an EgressIP, but for since when it is so. `holders`: each address that is held, and its
    node; `reason` and `message`: why none is, or what is wrong with one."""

    addresses: tuple[Address, ...]
    holders: tuple[tuple[Address, str], ...] = ()
    state: State = State.HELD
    reason: str = ""
    message: str = ""

    @property
    def condition(self) -> Condition:
        return Condition(HELD, self.state is State.HELD, self.reason or "Held", self.message)

    @property
    def fields(self) -> dict[str, Any]:
        """As the API has them; what is empty is taken out."""
        return {
            "addresses": [str(address) for address in self.addresses] or None,
            "holders": [{"address": str(address), "node": node} for address, node in self.holders] or None,
            "nodes": ", ".join(dict.fromkeys(node for _, node in self.holders)) or None,
            "state": self.state.value,
            "reason": self.reason or None,
        }


def named(declared: Declared) -> frozenset[Address]:
    """Addresses that EgressIPs ask for by name."""
    return frozenset(address for fact in declared.egress.values() for address in fact.wanted)


def egress_statuses(state: ClusterState) -> tuple[dict[ObjectName, EgressStatus], list[Contradiction]]:
    """What each EgressIP of a state is told; and what is refused, for Events. No Pod matters to that but one
    that asks for a floating address."""
    if not state.egress:
        return {}, []
    book = book_of(replace(state, pods={}), taken_in(state), said=True)
    found = {
        ObjectName("", name): _status(fact, book.holdings.get(name, ()))
        for name, fact in state.egress.items()
    }
    findings = [
        Contradiction(
            Kind.EGRESS_IP,
            ObjectName("", name),
            FindingReason.EGRESS_REFUSED,
            f"{each.reason.value}: {each.why}",
        )
        for name in sorted(book.holdings)
        for each in book.holdings[name]
        if each.reason.state is State.REFUSED
    ]
    return found, findings


def _status(fact: EgressIp, holdings: tuple[EgressHolding, ...]) -> EgressStatus:
    held = tuple((each.address, each.node) for each in holdings if each.held)
    # What is refused is for people to mend: it is told first.
    failed = sorted(
        (each for each in holdings if not each.held), key=lambda each: each.reason.state is not State.REFUSED
    )
    reason, why = Reason.HELD, "; ".join(dict.fromkeys(each.why for each in failed))
    if failed:
        reason = failed[0].reason
    elif lacking := _lacking(fact):
        reason, why = Reason.NO_ADDRESS, lacking
    return EgressStatus(fact.addresses, held, State.HELD if held else reason.state, reason.value, why)


def _lacking(fact: EgressIp) -> str:
    """Which addresses it has not been given; empty if none."""
    counts = {version: sum(each.version == version for each in fact.addresses) for version in fact.versions}
    return "; ".join(
        f"it names no IPv{version} address, and has been given {count or 'none'}"
        + (f" of {fact.replicas}" if fact.replicas > 1 else "")
        for version, count in counts.items()
        if count < fact.replicas
    )
