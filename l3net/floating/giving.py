"""Which addresses the controller gives FloatingIPs that name none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from l3net.addresses import host_prefix
from l3net.floating.entitled import floating_pools, may_take_of
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.spans import Search, Spans, address_of
from l3net.model import Address, FloatingIp, IpPool, Kind, Labels, ObjectName, Prefix


@dataclass(frozen=True, slots=True)
class GivingPlan:
    """The ledger as it should be, and what could not be done."""

    held: Mapping[ObjectName, tuple[Address, ...]]
    findings: tuple[Contradiction, ...] = ()


def plan_giving(
    floating: Mapping[ObjectName, FloatingIp],
    pools: Mapping[str, IpPool],
    ledger: Mapping[ObjectName, tuple[Address, ...]],
    *,
    namespaces: Mapping[str, Labels],
    taken: Iterable[Address] = (),
    blocks: Iterable[Prefix] = (),
    refused: Collection[str] = (),
    unsure: Collection[ObjectName] = (),
) -> GivingPlan:
    """Keep what is held, free what no FloatingIP holds any more, give what is missing.

    `taken`: what others have, addresses that FloatingIPs and Pods name among them; none of these is given,
    and nothing that was given is taken away for one: who names another's address is refused. `refused`:
    names of pools that must not be used. `unsure`: FloatingIPs of which nobody knows whether they are gone.
    """
    own = floating_pools(pools.values())
    usable = [pool for pool in own if pool.name not in refused]
    spans, others, of_blocks = Spans(), Spans(), Spans()
    for block in blocks:
        of_blocks.add(block, "")
    for address in sorted(set(taken), key=lambda each: (each.version, int(each))):
        others.add(host_prefix(address), "")
    held: dict[ObjectName, tuple[Address, ...]] = {}
    for name in sorted(unsure):
        if name not in floating and name in ledger:
            held[name] = ledger[name]
            for address in ledger[name]:
                spans.add(host_prefix(address), "")
    # What the ledger knows comes before what a status says, whoever that is of.
    for known in (True, False):
        for name in sorted(floating):
            kept = held.get(name, ())
            for address in ledger.get(name, ()) if known else floating[name].given:
                if not _keeps(floating[name], address, kept, pools, known=known):
                    continue
                if spans.add(host_prefix(address), str(name)) is None:
                    kept = (*kept, address)
            held[name] = kept
    searches: dict[str, Search] = {}
    findings: list[Contradiction] = []
    for name in sorted(floating):
        fact = floating[name]
        for version in fact.versions:
            if any(address.version == version for address in held[name]):
                continue
            tried = [
                pool
                for pool in usable
                if pool.cidr.version == version
                and fact.pool in ("", pool.name)
                and may_take_of(pool, namespaces, name.namespace)
            ]
            for pool in tried:
                search = searches.setdefault(pool.name, Search(pool.cidr, pool.cidr.max_prefixlen))
                if (found := search.next_free(spans, others, of_blocks)) is not None:
                    spans.add(found, str(name))
                    held[name] = (*held[name], address_of(found))
                    break
            else:
                findings.append(
                    Contradiction(Kind.FLOATING_IP, name, FindingReason.NO_ADDRESS_FREE, _why(version, tried))
                )
    return GivingPlan({name: kept for name, kept in held.items() if kept}, tuple(findings))


def _keeps(
    fact: FloatingIp,
    address: Address,
    kept: Iterable[Address],
    pools: Mapping[str, IpPool],
    *,
    known: bool,
) -> bool:
    """Whether a FloatingIP may go on having an address. That its pool is gone, or closed to its namespace,
    gives it no other: the pool may come back, and somebody may have written the address down."""
    if address.version not in fact.versions or any(each.version == address.version for each in kept):
        return False
    named = pools.get(fact.pool)
    if named is not None and address not in named.cidr:
        return False
    return known or any(address in pool.cidr for pool in floating_pools(pools.values()))


def _why(version: int, tried: Iterable[IpPool]) -> str:
    names = ", ".join(pool.name for pool in tried)
    if names:
        return f"no IPv{version} address is free in the pools it may use: {names}"
    return f"no IPPool with allowedUses: [Floating] and IPv{version} addresses is open to its namespace"
