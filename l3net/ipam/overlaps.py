"""Pools that must not be used, because two owners would hand out one address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import IpPool, Kind, Node, ObjectName, Prefix


def refused_pools(
    pools: Mapping[str, IpPool], service_cidrs: Iterable[Prefix], nodes: Iterable[Node]
) -> list[Contradiction]:
    """Both pools of each pair that overlaps, and pools that overlap a service range or hold a node's address.

    Both of a pair, because which came first must not depend on who looked when; blocks in use stay in use.
    """
    ordered = [pools[name] for name in sorted(pools)]
    ranges = tuple(service_cidrs)
    addresses = [(address, node.name) for node in nodes for address in node.addresses]
    findings: list[Contradiction] = []
    for pool in ordered:
        findings += [
            _finding(
                pool,
                FindingReason.POOL_OVERLAPS_POOL,
                f"{pool.cidr} overlaps {other.cidr} of pool {other.name}",
            )
            for other in ordered
            if other.name != pool.name and _overlap(pool.cidr, other.cidr)
        ]
        findings += [
            _finding(
                pool,
                FindingReason.POOL_OVERLAPS_SERVICE_CIDR,
                f"{pool.cidr} overlaps the service range {cidr} (serviceCIDRs of the BGPConfiguration, or "
                "else a ServiceCIDR)",
            )
            for cidr in ranges
            if _overlap(pool.cidr, cidr)
        ]
        inside = [(str(address), name) for address, name in addresses if address in pool.cidr]
        if inside:
            address, name = min(inside)
            findings.append(
                _finding(
                    pool,
                    FindingReason.POOL_OVERLAPS_NODE,
                    f"{pool.cidr} holds {address}, the address of node {name}"
                    + (f", and those of {len(inside) - 1} more" if len(inside) > 1 else ""),
                )
            )
    return findings


def _overlap(first: Prefix, second: Prefix) -> bool:
    return first.version == second.version and first.overlaps(second)


def _finding(pool: IpPool, reason: FindingReason, message: str) -> Contradiction:
    return Contradiction(Kind.IP_POOL, ObjectName("", pool.name), reason, message)
