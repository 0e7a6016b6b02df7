"""Who is given which floating and egress addresses, so that nobody is given what another has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from l3net.controller import egress, floating
from l3net.controller.declared import Declared
from l3net.egress.giving import wishes_of as wishes_of_egress
from l3net.floating.declared import addresses_of, hosts
from l3net.floating.giving import wishes_of as wishes_of_floating
from l3net.ipam.giving import GivingPlan, plan_giving
from l3net.ipam.ledger import Ledger
from l3net.model import Address, ClusterState, EgressIp, FloatingIp, Kind, ObjectName, PoolUse, Prefix

_Given = TypeVar("_Given", FloatingIp, EgressIp)
Held = Mapping[ObjectName, tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Addresses that are asked for by name: by FloatingIPs and Pods, and by EgressIPs."""

    floating: frozenset[Address] = frozenset()
    egress: frozenset[Address] = frozenset()

    def and_held(self, ledger: Ledger) -> frozenset[Address]:
        """With those that were given, all that are not for a load balancer or a block."""
        return (self.floating | self.egress).union(*ledger.floating.values(), *ledger.egress.values())


def asked_in(declared: Declared) -> Asked:
    """It looks at every Pod."""
    return Asked(floating.named(declared), egress.named(declared))


def give(
    declared: Declared,
    ledger: Ledger,
    services: Held,
    asked: Asked,
    blocks: Iterable[Prefix],
    *,
    refused: Collection[str],
    unsure: Collection[tuple[Kind, ObjectName]],
) -> tuple[GivingPlan, GivingPlan]:
    """What FloatingIPs, and EgressIPs, that name none are given. `services`: what load balancers have."""
    if not (declared.floating or ledger.floating or declared.egress or ledger.egress):
        return GivingPlan({}), GivingPlan({})
    taken = {address for held in services.values() for address in held}
    taken.update(address for each in declared.services.values() for address in addresses_of(each))
    taken.update(hosts(declared.nodes.values(), declared.peers.values()))
    taken.update(asked.floating, asked.egress)
    blocks = list(blocks)
    spaces = {name: space.labels for name, space in declared.namespaces.items()}
    floats = plan_giving(
        Kind.FLOATING_IP,
        PoolUse.FLOATING,
        wishes_of_floating(declared.floating, spaces),
        declared.pools,
        ledger.floating,
        taken=taken.union(*ledger.egress.values()),
        blocks=blocks,
        refused=refused,
        unsure=[name for kind, name in unsure if kind is Kind.FLOATING_IP],
    )
    leaving = plan_giving(
        Kind.EGRESS_IP,
        PoolUse.EGRESS,
        wishes_of_egress(declared.egress),
        declared.pools,
        ledger.egress,
        taken=taken.union(*floats.held.values()),
        blocks=blocks,
        refused=refused,
        unsure=[name for kind, name in unsure if kind is Kind.EGRESS_IP],
    )
    return floats, leaving


def state_with(declared: Declared, asked: Asked, floats: Held, leaving: Held) -> ClusterState:
    """What decides who has these addresses, once they are given; nothing where nobody asks for one."""
    if not (declared.floating or declared.egress or asked.floating):
        return ClusterState()
    state = declared.of_addresses()
    state.floating = {name: _with(fact, floats.get(name, ())) for name, fact in state.floating.items()}
    state.egress = {
        name: _with(fact, leaving.get(ObjectName("", name), ())) for name, fact in state.egress.items()
    }
    return state


def _with(fact: _Given, given: tuple[Address, ...]) -> _Given:
    return fact if fact.given == given else replace(fact, given=given)
