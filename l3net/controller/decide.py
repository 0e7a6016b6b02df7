"""Everything a pass decides, in one value. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from l3net.addresses import host_prefix
from l3net.controller.declared import Declared
from l3net.controller.egress import EgressStatus, egress_statuses
from l3net.controller.floating import FloatingStatus, floating_statuses
from l3net.controller.giving import asked_in, give, state_with
from l3net.ipam.balancers import AddressPlan, address_usage, plan_addresses
from l3net.ipam.blocks import PoolUsage, plan_blocks, pool_usage
from l3net.ipam.crosscheck import crosscheck, missing_filters
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.ledger import Ledger
from l3net.model import Address, BgpPeer, Kind, ObjectName, PoolUse, Prefix, node_addresses
from l3net.ports import Condition
from l3net.services.verdicts import (
    Reason,
    ServiceVerdict,
    cluster_ip_owners,
    nowhere_advertised,
    port_holders,
)

#: The condition of a BGPPeer that tells whether what it names is declared (as in the Gateway API).
RESOLVED: Final = "ResolvedRefs"


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace`: seconds a node must be gone before its blocks are free. `every_class`: services without a
    loadBalancerClass are served too. `give_blocks`: whether nodes get blocks from us at all.
    """

    grace: float = 300.0
    every_class: bool = False
    give_blocks: bool = True


@dataclass(frozen=True, slots=True)
class PoolStatus:
    usage: PoolUsage
    condition: Condition


@dataclass(frozen=True, slots=True)
class Decision:
    """The ledger to be, then what follows from it once it is written."""

    ledger: Ledger
    node_blocks: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    service_addresses: Mapping[ObjectName, tuple[Address, ...]] = field(default_factory=dict)
    pools: Mapping[str, PoolStatus] = field(default_factory=dict)
    findings: tuple[Contradiction, ...] = ()
    peers: Mapping[str, Condition] = field(default_factory=dict)
    floating: Mapping[ObjectName, FloatingStatus] = field(default_factory=dict)
    egress: Mapping[ObjectName, EgressStatus] = field(default_factory=dict)


def decide(
    declared: Declared,
    ledger: Ledger,
    settings: Settings,
    forgotten: Collection[str] = (),
    unsure: Collection[tuple[Kind, ObjectName]] = (),
) -> Decision:
    """`node_blocks` and `service_addresses` name only those whose object does not say so yet.

    `unsure`: services, FloatingIPs and EgressIPs that the watch does not know and that may be there all the
    same.
    """
    against = crosscheck(
        declared.nodes,
        declared.pools,
        declared.service_ranges,
        [declared.peers[name] for name in sorted(declared.peers)],
        declared.filters,
    )
    overlaps = [finding for finding in against if finding.kind is Kind.IP_POOL]
    refused = frozenset(finding.about.name for finding in overlaps)
    pools = declared.pools if settings.give_blocks else {}
    asked = asked_in(declared)
    others = [host_prefix(address) for address in asked.and_held(ledger)]
    given = [host_prefix(address) for held in ledger.addresses.values() for address in held]
    blocks = plan_blocks(
        declared.nodes,
        pools,
        ledger.blocks,
        forgotten=forgotten,
        refused=refused,
        addresses=[*given, *others],
        known=ledger.pools,
    )
    flat = [block for held in blocks.held.values() for block in held]
    addresses = plan_addresses(
        declared.services,
        declared.pools,
        ledger.addresses,
        namespaces=declared.namespaces,
        blocks=[*flat, *others],
        refused=refused,
        every_class=settings.every_class,
        unsure=[name for kind, name in unsure if kind is Kind.SERVICE],
    )
    floats, leaving = give(declared, ledger, addresses.held, asked, flat, refused=refused, unsure=unsure)
    state = state_with(declared, asked, floats.held, leaving.held)
    floating, floating_findings = floating_statuses(state, asked.floating)
    egress, egress_findings = egress_statuses(state)
    known = blocks.pools if settings.give_blocks else ledger.pools
    written = Ledger(blocks.held, addresses.held, known, floats.held, leaving.held)
    return Decision(
        written,
        _node_blocks(declared, blocks.held),
        _service_addresses(declared, addresses),
        _pools(declared, flat, addresses, asked.and_held(written), overlaps),
        (
            *(*against, *blocks.findings, *addresses.findings, *_unheard_of(declared)),
            *(*floats.findings, *floating_findings, *leaving.findings, *egress_findings),
        ),
        {name: _references(declared.peers[name], declared.filters) for name in declared.peers},
        floating,
        egress,
    )


def _references(peer: BgpPeer, filters: Collection[str]) -> Condition:
    """Whether what the peer names is declared: its filters. Its Secrets are for the agents alone to read."""
    missing = list(missing_filters(peer, filters))
    if missing:
        why = "; ".join(finding.message for finding in missing)
        return Condition(RESOLVED, False, missing[0].reason.value, why)
    return Condition(RESOLVED, True, "ResolvedRefs", if_said=True)


def _unheard_of(declared: Declared) -> list[Contradiction]:
    """Addresses that people count on from outside, and that no node announces."""
    policy = declared.configuration.advertise
    owners = cluster_ip_owners(declared.services.values())
    holders = port_holders(declared.services.values(), policy, owners)
    of_nodes = node_addresses(declared.nodes.values())
    return [
        _unheard(verdict)
        for service in declared.services.values()
        for verdict in nowhere_advertised(service, policy, owners, holders, of_nodes)
    ]


def _unheard(verdict: ServiceVerdict) -> Contradiction:
    what = f"{verdict.address} ({verdict.kind.value})"
    if verdict.lost:
        reason, message = FindingReason.CONFLICTING_SERVICE, f"{what}: {'; '.join(verdict.lost)}"
    elif verdict.reason is Reason.NODE_ADDRESS:
        reason = FindingReason.NOT_ADVERTISED
        message = f"{what} is announced by no node: it is an address of a node"
    else:
        reason = FindingReason.NOT_ADVERTISED
        message = (
            f"{what} is announced by no node: {verdict.reason.value}; see "
            f"spec.advertise.{verdict.kind.value}s of the BGPConfiguration"
        )
    return Contradiction(Kind.SERVICE, verdict.service, reason, message)


def _node_blocks(declared: Declared, held: Mapping[str, tuple[Prefix, ...]]) -> dict[str, tuple[Prefix, ...]]:
    return {
        name: _primary_first(held[name], node.addresses)
        for name, node in declared.nodes.items()
        if name in held and set(held[name]) - set(node.blocks)
    }


def _primary_first(blocks: tuple[Prefix, ...], addresses: tuple[Address, ...]) -> tuple[Prefix, ...]:
    """The family of the node's first address first, as Kubernetes has it for dual-stack."""
    first = addresses[0].version if addresses else 4
    return tuple(sorted(blocks, key=lambda block: block.version != first))


def _service_addresses(declared: Declared, plan: AddressPlan) -> dict[ObjectName, tuple[Address, ...]]:
    wanted = {name: plan.held.get(name, ()) for name in declared.services if name in plan.served}
    return {
        name: addresses
        for name, addresses in wanted.items()
        if addresses != declared.services[name].load_balancer_ips
    }


def _pools(
    declared: Declared,
    blocks: list[Prefix],
    plan: AddressPlan,
    others: Iterable[Address],
    overlaps: list[Contradiction],
) -> dict[str, PoolStatus]:
    wrong: dict[str, Contradiction] = {}
    for finding in overlaps:
        wrong.setdefault(finding.about.name, finding)
    handed = {address for held in plan.held.values() for address in held} | set(others)
    found: dict[str, PoolStatus] = {}
    for name, pool in declared.pools.items():
        for_pods = PoolUse.PODS in pool.allowed_uses
        usage = pool_usage(pool, blocks) if for_pods else address_usage(pool, handed)
        if name in wrong:
            why = "; ".join(finding.message for finding in overlaps if finding.about.name == name)
            condition = Condition("Ready", False, wrong[name].reason.value, why)
        elif pool.disabled:
            condition = Condition("Ready", False, "Disabled", "nothing new is assigned")
        elif not usage.free:
            condition = Condition("Ready", False, "Full", "everything is assigned")
        else:
            condition = Condition("Ready", True, "InUse" if usage.used else "Unused")
        found[name] = PoolStatus(usage, condition)
    return found


def owners_lost(before: Ledger, after: Ledger) -> list[tuple[Kind, ObjectName]]:
    """Who held something by the old ledger and nothing by the new one."""
    nodes = [(Kind.NODE, ObjectName("", name)) for name in before.blocks if name not in after.blocks]
    services = [(Kind.SERVICE, name) for name in before.addresses if name not in after.addresses]
    floating = [(Kind.FLOATING_IP, name) for name in before.floating if name not in after.floating]
    egress = [(Kind.EGRESS_IP, name) for name in before.egress if name not in after.egress]
    return [*nodes, *services, *floating, *egress]
