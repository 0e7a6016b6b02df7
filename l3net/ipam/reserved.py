"""IPPools for the pods of some namespaces: which blocks of a node a pod may have an address from.

A pool with a namespaceSelector is reserved: pods of the namespaces it selects get addresses from it and from
nowhere else, all others from blocks of no such pool. Each family is decided by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l3net.addresses import contains
from l3net.model import EVERYTHING, IpPool, PoolUse, Prefix
from l3net.naming import ANNOTATION_WANTS_POOLS

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    from l3net.model import Namespace, Node

_WISH = re.compile(r"([a-z0-9][-.a-z0-9]*)=([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class ReservedPool:
    """A reserved pool as one node has it: the node's blocks of it, and whose pods they are for."""

    name: str
    version: int
    blocks: tuple[Prefix, ...]
    namespaces: frozenset[str]


class NamespaceUnknownError(Exception):
    """The labels of the pod's namespace are not known yet, so that its pool is not either."""


class PoolMissingError(Exception):
    """The node has no block of the pool that the pod's addresses must come from. `pool`: its name."""

    def __init__(self, pool: str) -> None:
        super().__init__(pool)
        self.pool = pool


def is_reserved(pool: IpPool) -> bool:
    """Whether a pool is for the pods of some namespaces only."""
    return PoolUse.PODS in pool.allowed_uses and pool.namespace_selector != EVERYTHING


def open_blocks(blocks: Iterable[Prefix], pools: Iterable[IpPool]) -> tuple[Prefix, ...]:
    """The blocks that lie in no reserved pool."""
    closed = [pool.cidr for pool in pools if is_reserved(pool)]
    return tuple(block for block in blocks if not any(contains(cidr, block) for cidr in closed))


def reserved_pools(
    pools: Mapping[str, IpPool], node: Node, namespaces: Mapping[str, Namespace]
) -> tuple[ReservedPool, ...]:
    """The reserved pools that count on a node, by name: those open to it, and those it has blocks of."""
    found = []
    for name in sorted(pools):
        pool = pools[name]
        if not is_reserved(pool):
            continue
        blocks = tuple(block for block in node.blocks if contains(pool.cidr, block))
        if not blocks and (pool.disabled or not pool.node_selector.matches(node.labels)):
            continue
        chosen = frozenset(
            each.name for each in namespaces.values() if pool.namespace_selector.matches(each.labels)
        )
        found.append(ReservedPool(name, pool.cidr.version, blocks, chosen))
    return tuple(found)


def blocks_for(
    namespace: str, unreserved: tuple[Prefix, ...], reserved: tuple[ReservedPool, ...], known: frozenset[str]
) -> tuple[Prefix, ...]:
    """The blocks that a pod of a namespace may have addresses from. No namespace: those of nobody's.

    `known`: the namespaces there are. Raises NamespaceUnknownError, PoolMissingError.
    """
    if not namespace or not reserved:
        return unreserved
    if namespace not in known:
        raise NamespaceUnknownError(namespace)
    blocks: list[Prefix] = []
    for version in (4, 6):
        mine = [pool for pool in reserved if pool.version == version and namespace in pool.namespaces]
        found = [block for pool in mine for block in pool.blocks]
        if mine and not found:
            raise PoolMissingError(mine[0].name)
        blocks += found if mine else [block for block in unreserved if block.version == version]
    return tuple(blocks)


def wanted_pools(node: Node) -> tuple[dict[str, int], str]:
    """How many blocks of each reserved pool a node asks for by annotation, and what is wrong with that."""
    text = node.annotations.get(ANNOTATION_WANTS_POOLS, "")
    wanted: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _WISH.fullmatch(part)
        if match is None:
            return {}, f"{ANNOTATION_WANTS_POOLS} is not as in tenant-a=1,tenant-b=2"
        wanted[match[1]] = int(match[2])
    return wanted, ""


def raised_pools(text: str, wanted: Mapping[str, int]) -> str | None:
    """The annotation with no less than this; None if it says so already. What is unreadable in it goes."""
    asked = {name: int(count) for name, count in _WISH.findall(text)}
    raised = asked | {name: max(count, asked.get(name, 0)) for name, count in wanted.items()}
    if raised == asked:
        return None
    return ",".join(f"{name}={raised[name]}" for name in sorted(raised))
