"""Which addresses are given to those that name none, FloatingIPs and EgressIPs, out of the pools for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from l3net.addresses import host_prefix
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.spans import Search, Spans, address_of
from l3net.model import Address, IpPool, Kind, ObjectName, PoolUse, Prefix
from l3net.near import did_you_mean


@dataclass(frozen=True, slots=True)
class Wish:
    """What one object is to be given: so many addresses of each IP version (`counts`), out of `pool` if that
    is named. `given`: those that its status says it has. `may_take`: of which pools it may be given any."""

    counts: Mapping[int, int]
    pool: str = ""
    given: tuple[Address, ...] = ()
    may_take: Callable[[IpPool], bool] = lambda pool: not pool.disabled


@dataclass(frozen=True, slots=True)
class GivingPlan:
    """The ledger as it should be, and what could not be done."""

    held: Mapping[ObjectName, tuple[Address, ...]]
    findings: tuple[Contradiction, ...] = ()


def plan_giving(
    kind: Kind,
    use: PoolUse,
    wishes: Mapping[ObjectName, Wish],
    pools: Mapping[str, IpPool],
    ledger: Mapping[ObjectName, tuple[Address, ...]],
    *,
    taken: Iterable[Address] = (),
    blocks: Iterable[Prefix] = (),
    refused: Collection[str] = (),
    unsure: Collection[ObjectName] = (),
) -> GivingPlan:
    """Keep what is held, free what nobody holds any more, give what is missing: to objects of a `kind`, out
    of the pools for a `use`.

    `taken`: what others have, addresses that are asked for by name among them; none of these is given, and
    nothing that was given is taken away for one: who names another's address is refused. `refused`: names of
    pools that must not be used. `unsure`: objects of which nobody knows whether they are gone.
    """
    own = sorted((pool for pool in pools.values() if use in pool.allowed_uses), key=lambda pool: pool.name)
    usable = [pool for pool in own if pool.name not in refused]
    spans, others, of_blocks = Spans(), Spans(), Spans()
    for block in blocks:
        of_blocks.add(block, "")
    for address in sorted(set(taken), key=lambda each: (each.version, int(each))):
        others.add(host_prefix(address), "")
    held: dict[ObjectName, tuple[Address, ...]] = {}
    for name in sorted(unsure):
        if name not in wishes and name in ledger:
            held[name] = ledger[name]
            for address in ledger[name]:
                spans.add(host_prefix(address), "")
    # What the ledger knows comes before what a status says, whoever that is of.
    for known in (True, False):
        for name in sorted(wishes):
            kept = held.get(name, ())
            for address in ledger.get(name, ()) if known else wishes[name].given:
                if not _keeps(wishes[name], address, kept, pools, own, known=known):
                    continue
                if spans.add(host_prefix(address), str(name)) is None:
                    kept = (*kept, address)
            held[name] = kept
    searches: dict[str, Search] = {}
    findings: list[Contradiction] = []

    def free(tried: Iterable[IpPool]) -> Prefix | None:
        for pool in tried:
            search = searches.setdefault(pool.name, Search(pool.cidr, pool.cidr.max_prefixlen, pool.avoids))
            if (found := search.next_free(spans, others, of_blocks)) is not None:
                return found
        return None

    for name in sorted(wishes):
        wish = wishes[name]
        for version, count in wish.counts.items():
            tried = [
                pool
                for pool in usable
                if pool.cidr.version == version and wish.pool in ("", pool.name) and wish.may_take(pool)
            ]
            for _ in range(count - _of(version, held[name])):
                if (found := free(tried)) is None:
                    gone = wish.pool if wish.pool and wish.pool not in pools else ""
                    why = _no_pool(gone, use, pools) if gone else _why(use, version, tried)
                    findings.append(Contradiction(kind, name, FindingReason.NO_ADDRESS_FREE, why))
                    break
                spans.add(found, str(name))
                held[name] = (*held[name], address_of(found))
    return GivingPlan({name: kept for name, kept in held.items() if kept}, tuple(findings))


def _keeps(
    wish: Wish,
    address: Address,
    kept: Iterable[Address],
    pools: Mapping[str, IpPool],
    own: Iterable[IpPool],
    *,
    known: bool,
) -> bool:
    """Whether an object may go on having an address. That its pool is gone, or closed to it, gives it no
    other: the pool may come back, and somebody may have written the address down."""
    if _of(address.version, kept) >= wish.counts.get(address.version, 0):
        return False
    named = pools.get(wish.pool)
    if named is not None and address not in named.cidr:
        return False
    return known or any(address in pool.cidr for pool in own)


def _of(version: int, addresses: Iterable[Address]) -> int:
    return sum(address.version == version for address in addresses)


def _no_pool(name: str, use: PoolUse, pools: Mapping[str, IpPool]) -> str:
    hint = did_you_mean(name, (each.name for each in pools.values() if use in each.allowed_uses))
    return f"there is no IPPool {name}; create it with allowedUses: [{use.value}], or correct `pool`{hint}"


def _why(use: PoolUse, version: int, tried: Iterable[IpPool]) -> str:
    names = ", ".join(pool.name for pool in tried)
    if names:
        return f"no IPv{version} address is free in the pools it may use: {names}"
    none = f"no IPPool with allowedUses: [{use.value}] and IPv{version} addresses"
    return f"{none} is open to its namespace" if use is PoolUse.FLOATING else f"{none} gives any"
