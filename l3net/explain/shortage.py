"""What has run out: addresses for a service of type LoadBalancer, or for pods of a node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from l3net.explain.steps import Step, bad, doubt, note
from l3net.ipam.balancers import plan_addresses
from l3net.ipam.findings import FindingReason
from l3net.ipam.lease import Usage
from l3net.model import Family, IpPool, Namespace, ObjectName, PoolUse, Prefix, Service
from l3net.naming import LOAD_BALANCER_CLASS

#: By these the controller gives no address, and says so.
_REFUSED: Final = (
    FindingReason.NO_ADDRESS_FREE,
    FindingReason.ADDRESS_IN_USE,
    FindingReason.ADDRESS_OUTSIDE_POOLS,
    FindingReason.INVALID_REQUEST,
)
_EXHAUSTED: Final = "poolExhausted"


def unserved(
    service: Service,
    services: Mapping[ObjectName, Service],
    pools: Mapping[str, IpPool],
    namespaces: Mapping[str, Namespace],
    blocks: Iterable[Prefix],
) -> tuple[str, str] | None:
    """Why a service of type LoadBalancer has no address of a family: in words, and a cause; None: it has what
    it wants, or is another implementation's. By what services' statuses say that they hold."""
    if service.type != "LoadBalancer" or service.load_balancer_class not in (None, LOAD_BALANCER_CLASS):
        return None
    has = {address.version for address in service.load_balancer_ips}
    if {address.version for address in service.cluster_ips} <= has:
        return None
    if not any(PoolUse.LOAD_BALANCER in pool.allowed_uses for pool in pools.values()):
        if service.load_balancer_class is None or has:
            return None  # of nobody knows whom
        return "no IPPool has allowedUses: [LoadBalancer]", "noBalancerPool"
    ledger = {name: each.load_balancer_ips for name, each in services.items() if each.load_balancer_ips}
    plan = plan_addresses(services, pools, ledger, namespaces=namespaces, blocks=blocks, every_class=True)
    for finding in plan.findings:
        if finding.about == service.name and finding.reason in _REFUSED:
            exhausted = finding.reason is FindingReason.NO_ADDRESS_FREE
            return finding.message, _EXHAUSTED if exhausted else "addressRefused"
    if has:
        return None
    return "a pool has room, and no address was given yet", "noBalancerAddress"


def unserved_steps(found: tuple[str, str] | None, name: str, *, reached: bool) -> Iterator[Step]:
    """`reached`: the service is reached from beyond the cluster by another address."""
    if found is None:
        return
    seen, cause = found
    advice = (
        "see that the controller runs (`kubectl describe service` has its Events), with --every-class if the "
        "service has no loadBalancerClass"
        if cause == "noBalancerAddress"
        else "give the pool more addresses, add an IPPool with allowedUses: [LoadBalancer], or free one: "
        "`kubectl get services -A` shows who holds them"
    )
    make = note if reached else doubt if cause == "noBalancerAddress" else bad
    yield make("address", name, f"it has no address of a load balancer: {seen}", advice, cause)


def full(room: Iterable[tuple[Family, int, Usage]]) -> Sequence[str]:
    """A sentence for each family of which no pod of a node can get an address."""
    return [
        f"no IPv{family.value} address is free in the node's blocks: of {size} {usage.leased} are leased, "
        f"{usage.cooling} in cool-down"
        for family, size, usage in room
        if usage.leased + usage.cooling >= size
    ]


def full_step(name: str, node: str, found: Sequence[str]) -> Step:
    """Of a pod that has no address."""
    return bad(
        "pod",
        name,
        f"it has no address, and {node} has none for it: {'; '.join(found)}",
        "delete pods of the node or move them, or give the node another block (IPPool, spec.podCIDRs): "
        "`l3net ipam show` on it has who holds what",
        _EXHAUSTED,
    )
