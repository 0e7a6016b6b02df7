"""The controller's ledger as text: one line for each owner, so that the ConfigMap reads well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from l3net.addresses import parse_address, parse_prefix
from l3net.errors import L3netError
from l3net.model import Address, ObjectName, Prefix

BLOCKS_KEY = "blocks"
ADDRESSES_KEY = "addresses"
POOLS_KEY = "pools"
FLOATING_KEY = "floating"
EGRESS_KEY = "egress"


class LedgerError(L3netError):
    """The ledger cannot be read: somebody wrote into it. Nothing is handed out until it can."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Who holds what: node to blocks, and service to load-balancer addresses.

    `pools`: the ranges of pools, also of those that are gone, in which blocks are held, and the pools' names.
    They prove that a block came from a pool, and not from the cluster. `floating` and `egress`: FloatingIPs,
    EgressIPs and the addresses that they were given.
    """

    blocks: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    addresses: Mapping[ObjectName, tuple[Address, ...]] = field(default_factory=dict)
    pools: Mapping[Prefix, str] = field(default_factory=dict)
    floating: Mapping[ObjectName, tuple[Address, ...]] = field(default_factory=dict)
    egress: Mapping[ObjectName, tuple[Address, ...]] = field(default_factory=dict)


def encode(ledger: Ledger) -> dict[str, str]:
    """As the values of a ConfigMap. The same ledger gives the same text."""
    return {
        BLOCKS_KEY: "".join(
            f"{name} {','.join(map(str, ledger.blocks[name]))}\n" for name in sorted(ledger.blocks)
        ),
        ADDRESSES_KEY: _owners(ledger.addresses),
        POOLS_KEY: "".join(f"{cidr} {name}\n" for cidr, name in sorted(ledger.pools.items(), key=str)),
        FLOATING_KEY: _owners(ledger.floating),
        EGRESS_KEY: _owners(ledger.egress),
    }


def _owners(held: Mapping[ObjectName, tuple[Address, ...]]) -> str:
    return "".join(f"{name} {','.join(map(str, held[name]))}\n" for name in sorted(held))


def decode(values: Mapping[str, str]) -> Ledger:
    """The reverse. Raises LedgerError naming the line."""
    blocks: dict[str, tuple[Prefix, ...]] = {}
    for where, owner, held in _lines(values, BLOCKS_KEY):
        try:
            blocks[owner] = tuple(parse_prefix(text, strict=True) for text in held.split(","))
        except ValueError as err:
            raise LedgerError(f"{where}: {err}") from None
    pools: dict[Prefix, str] = {}
    for where, cidr, name in _lines(values, POOLS_KEY):
        try:
            pools[parse_prefix(cidr, strict=True)] = name
        except ValueError as err:
            raise LedgerError(f"{where}: {err}") from None
    return Ledger(
        blocks,
        _owned(values, ADDRESSES_KEY),
        pools,
        _owned(values, FLOATING_KEY),
        _owned(values, EGRESS_KEY, namespaced=False),
    )


def _owned(
    values: Mapping[str, str], key: str, *, namespaced: bool = True
) -> dict[ObjectName, tuple[Address, ...]]:
    found: dict[ObjectName, tuple[Address, ...]] = {}
    for where, owner, held in _lines(values, key):
        namespace, slash, name = owner.partition("/") if namespaced else ("", "", owner)
        try:
            found[ObjectName(namespace, name)] = tuple(parse_address(text) for text in held.split(","))
        except ValueError as err:
            raise LedgerError(f"{where}: {err}") from None
        if namespaced and not slash:
            raise LedgerError(f"{where}: {owner!r} is not NAMESPACE/NAME")
    return found


def _lines(values: Mapping[str, str], key: str) -> list[tuple[str, str, str]]:
    found = []
    for number, line in enumerate(values.get(key, "").splitlines(), 1):
        owner, _, held = line.partition(" ")
        where = f"ledger, {key}, line {number}"
        if not owner or not held:
            raise LedgerError(f"{where}: not an owner and what it holds")
        found.append((where, owner, held))
    return found
