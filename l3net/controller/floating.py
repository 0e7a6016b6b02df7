"""What FloatingIPs are given, and what their status says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from l3net.controller.declared import Declared
from l3net.floating.declared import addresses_of, book_of, hosts
from l3net.floating.giving import GivingPlan, plan_giving
from l3net.floating.holding import FLOATING_IP, POD, Claimant, Holding, Reason, State
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.ledger import Ledger
from l3net.model import Address, FloatingIp, Kind, ObjectName, Prefix
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


def named(declared: Declared) -> frozenset[Address]:
    """Addresses that FloatingIPs and Pods ask for by name. It looks at every Pod."""
    asked = (pod.floating for pod in declared.pods.values() if pod.floating)
    wanted = (fact.wanted for fact in declared.floating.values())
    return frozenset(address for each in (*wanted, *asked) for address in each)


def give(
    declared: Declared,
    ledger: Ledger,
    services: Mapping[ObjectName, tuple[Address, ...]],
    by_name: Collection[Address],
    blocks: Iterable[Prefix],
    *,
    refused: Collection[str],
    unsure: Collection[ObjectName],
) -> GivingPlan:
    """The addresses of FloatingIPs that name none. `services`: what load balancers hold; `by_name`: see
    `named`."""
    if not declared.floating and not ledger.floating:
        return GivingPlan({})
    taken = {address for held in services.values() for address in held}
    taken.update(address for each in declared.services.values() for address in addresses_of(each))
    taken.update(hosts(declared.nodes.values(), declared.peers.values()))
    taken.update(by_name)
    return plan_giving(
        declared.floating,
        declared.pools,
        ledger.floating,
        namespaces={name: space.labels for name, space in declared.namespaces.items()},
        taken=taken,
        blocks=blocks,
        refused=refused,
        unsure=unsure,
    )


def floating_statuses(
    declared: Declared, given: Mapping[ObjectName, tuple[Address, ...]], by_name: Collection[Address]
) -> tuple[dict[ObjectName, FloatingStatus], list[Contradiction]]:
    """What each FloatingIP is told; and what is refused, for Events: of Pods that ask by annotation too."""
    if not declared.floating and not by_name:
        return {}, []
    state = declared.of_floating()
    state.floating = {name: _with(fact, given.get(name, ())) for name, fact in state.floating.items()}
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


def _with(fact: FloatingIp, given: tuple[Address, ...]) -> FloatingIp:
    return fact if fact.given == given else replace(fact, given=given)


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
