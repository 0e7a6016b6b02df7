"""Which addresses a namespace may take, by the pools and by what else has the address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from l3net.floating.holding import Reason
from l3net.model import EVERYTHING, Address, IpPool, Labels, PoolUse


def floating_pools(pools: Iterable[IpPool]) -> tuple[IpPool, ...]:
    """Those that floating addresses come from, by name."""
    return tuple(
        sorted((pool for pool in pools if PoolUse.FLOATING in pool.allowed_uses), key=lambda pool: pool.name)
    )


def refusal(
    address: Address,
    pools: Iterable[IpPool],
    labels: Labels,
    *,
    annotated: bool = False,
    pool: str = "",
) -> tuple[Reason, str]:
    """Why a namespace with these labels may not have an address out of floating `pools`; HELD where it may.

    `annotated`: a Pod asks by its annotation. Whoever may make Pods could take any address so; hence a pool
    that names its namespaces is needed. `pool`: the one that it has to come from, if not empty.
    """
    holding = [each for each in pools if address in each.cidr and pool in ("", each.name)]
    if not holding:
        where = f"IPPool {pool}" if pool else "no IPPool with allowedUses: [Floating]"
        return Reason.OUTSIDE_POOLS, f"{where} {'does not hold' if pool else 'holds'} {address}"
    opened = [each for each in holding if each.namespace_selector.matches(labels)]
    if not opened:
        return Reason.NAMESPACE, f"IPPool {holding[0].name} is not open to the namespace (namespaceSelector)"
    if annotated and all(each.namespace_selector == EVERYTHING for each in opened):
        return (
            Reason.NAMESPACE,
            f"IPPool {opened[0].name} has no namespaceSelector: its addresses are for FloatingIPs alone, not "
            "for the annotation of a Pod",
        )
    return Reason.HELD, ""


def may_take_of(pool: IpPool, namespaces: Mapping[str, Labels], namespace: str) -> bool:
    """Whether addresses of a pool may be given to a FloatingIP of a namespace."""
    return not pool.disabled and pool.namespace_selector.matches(namespaces.get(namespace, {}))
