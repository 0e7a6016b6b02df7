"""Which blocks a node gets out of the IPPools.

A ledger, which the controller keeps with compare-and-swap, says who holds what; a plan turns it, the nodes
and the pools as they are now into the ledger as it should be. A block once held by a node is never moved, and
what overlaps anything held is never handed out, so the order of events does not matter to safety: the ledger
is the only history there is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from l3net.addresses import contains, prefix_order
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.reserved import is_reserved, wanted_pools
from l3net.ipam.spans import Search, Spans
from l3net.model import IpPool, Kind, Node, ObjectName, PoolUse, Prefix
from l3net.naming import ANNOTATION_BLOCKS, ANNOTATION_WANTS_BLOCKS

#: Blocks of one family that a node may ask for: an agent gone wrong must not empty the pools.
MOST_BLOCKS = 16

Ledger = Mapping[str, tuple[Prefix, ...]]


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """The ledger as it should be (node to blocks), and what could not be done."""

    held: Ledger
    findings: tuple[Contradiction, ...] = ()
    pools: Mapping[Prefix, str] = field(default_factory=dict)  # in whose ranges blocks are held


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """How full a pool is: blocks, or addresses of a pool for load balancers."""

    used: int
    free: int


def cluster_blocks(node: Node) -> tuple[Prefix, ...]:
    """A node's podCIDRs: its blocks without those of the annotation."""
    added = {text.strip() for text in node.annotations.get(ANNOTATION_BLOCKS, "").split(",")}
    return tuple(block for block in node.blocks if str(block) not in added)


def families_of_cluster(nodes: Iterable[Node], ranges: Collection[Prefix]) -> frozenset[int]:
    """The IP versions for which somebody else (kube-controller-manager) gives nodes their podCIDRs.

    Seen by podCIDRs that lie in none of the `ranges` of our pools, those that are gone among them.
    """
    return frozenset(
        block.version
        for node in nodes
        for block in cluster_blocks(node)
        if not any(contains(cidr, block) for cidr in ranges)
    )


def plan_blocks(
    nodes: Mapping[str, Node],
    pools: Mapping[str, IpPool],
    ledger: Ledger,
    *,
    forgotten: Collection[str] = (),
    refused: Collection[str] = (),
    addresses: Iterable[Prefix] = (),
    known: Mapping[Prefix, str] | None = None,
) -> BlockPlan:
    """Keep what is held, take note of podCIDRs, give blocks to nodes without, and more to those that ask.

    `forgotten`: nodes gone for longer than the grace time, whose blocks are free. `refused`: names of pools
    that must not be used. `addresses`: load-balancer addresses handed out, as prefixes of full length.
    `known`: ranges of pools that blocks are held of, by the ledger; the pools may be gone.
    """
    own = {name: pool for name, pool in pools.items() if PoolUse.PODS in pool.allowed_uses}
    ranges = {**(known or {}), **{pool.cidr: pool.name for pool in own.values()}}
    retired = [pool.cidr for pool in own.values() if pool.disabled]
    planner = _Planner(addresses)
    for name in sorted(ledger):
        if name not in nodes and name not in forgotten:
            planner.remember(name, ledger[name])
    untold: dict[str, list[Prefix]] = {}
    for name in sorted(nodes):
        held = _still_held(nodes[name], ledger.get(name, ()), ranges, retired)
        planner.remember(name, [block for block in held if block in nodes[name].blocks])
        if rest := [block for block in held if block not in nodes[name].blocks]:
            untold[name] = rest
    planner.give_untold(untold, nodes)
    for name in sorted(nodes):
        planner.adopt(nodes[name], nodes)
    foreign = families_of_cluster(nodes.values(), ranges)
    usable = [own[name] for name in sorted(own) if name not in refused and not own[name].disabled]
    closed = [pool.cidr for pool in own.values() if is_reserved(pool)]
    for name in sorted(nodes):
        planner.fill(nodes[name], [pool for pool in usable if not is_reserved(pool)], foreign, closed)
    reserved = {pool.name: pool for pool in usable if is_reserved(pool)}
    for name in sorted(nodes):
        planner.fill_reserved(nodes[name], reserved)
    blocks = [block for held in planner.held.values() for block in held]
    used = {cidr: name for cidr, name in ranges.items() if any(contains(cidr, block) for block in blocks)}
    gone = {cidr: name for cidr, name in used.items() if not any(pool.cidr == cidr for pool in own.values())}
    for name in sorted(nodes):
        planner.say_gone(nodes[name], usable, foreign, gone)
    planner.findings += [
        Contradiction(
            Kind.IP_POOL,
            ObjectName("", name),
            FindingReason.POOL_GONE,
            f"the pool of {cidr} is gone; nodes keep the blocks they have of it, and new ones get none",
        )
        for cidr, name in gone.items()
    ]
    return BlockPlan(
        {name: tuple(held) for name, held in planner.held.items() if held}, tuple(planner.findings), used
    )


def pool_usage(pool: IpPool, held: Iterable[Prefix]) -> PoolUsage:
    """Blocks in use and left; a block of another size counts for those it covers."""
    used = gone = 0
    for block in held:
        if contains(pool.cidr, block):
            used += 1
            gone += 1 << max(pool.block_size - block.prefixlen, 0)
    return PoolUsage(used, max((1 << (pool.block_size - pool.cidr.prefixlen)) - gone, 0))


def wanted_blocks(node: Node) -> tuple[dict[int, int], str]:
    """How many blocks of each IP version a node asks for by annotation, and what is wrong with that."""
    text = node.annotations.get(ANNOTATION_WANTS_BLOCKS, "")
    wanted: dict[int, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"IPv([46])=([0-9]{1,4})", part)
        if match is None:
            return {}, f"{ANNOTATION_WANTS_BLOCKS} is not as in IPv4=2,IPv6=1"
        wanted[int(match[1])] = int(match[2])
    return wanted, ""


def _still_held(
    node: Node, held: Iterable[Prefix], ranges: Collection[Prefix], retired: Collection[Prefix]
) -> tuple[Prefix, ...]:
    """What the ledger says of a node that exists.

    A block outside our pools that the node does not carry was the cluster's, given to an earlier node of this
    name; the cluster may have given it to another. One in the range of a pool that is disabled (`retired`) it
    has given up, with its Node or its annotation: that is how a pool is emptied.
    """

    def stays(block: Prefix) -> bool:
        ours = any(contains(cidr, block) for cidr in ranges)
        return ours and not any(contains(cidr, block) for cidr in retired)

    return tuple(block for block in held if block in node.blocks or stays(block))


class _Planner:
    """One plan in the making."""

    def __init__(self, addresses: Iterable[Prefix]) -> None:
        self.held: dict[str, list[Prefix]] = {}
        self.findings: list[Contradiction] = []
        self._taken = Spans()
        self._addresses = Spans()
        for address in sorted(set(addresses), key=prefix_order):
            self._addresses.add(address, "")
        self._searches: dict[str, Search] = {}

    def remember(self, name: str, blocks: Iterable[Prefix]) -> None:
        kept = self.held.setdefault(name, [])
        for block in blocks:
            if (found := self._taken.add(block, name)) is None:
                kept.append(block)
            elif found[1] != name:  # cannot come to be by our own writing
                self._conflict(name, block, *found)

    def give_untold(self, untold: Mapping[str, list[Prefix]], nodes: Mapping[str, Node]) -> None:
        """Blocks that the ledger gives to nodes which do not carry them yet.

        What another node carries may have pods, and stays that node's: the ledger was edited by hand, say.
        """
        carried = Spans()
        for node in nodes.values() if untold else ():
            for block in node.blocks:
                carried.add(block, node.name)
        for name, blocks in untold.items():
            free = []
            for block in blocks:
                found = carried.overlapping(block)
                if found is None or found[1] == name:
                    free.append(block)
                    continue
                self._say(
                    name,
                    FindingReason.BLOCK_CONFLICT,
                    f"the controller's ledger gives it {block}, which overlaps {found[0]}: node {found[1]} "
                    "carries and keeps that",
                )
            self.remember(name, free)

    def adopt(self, node: Node, nodes: Mapping[str, Node]) -> None:
        """Blocks that the node carries already, whoever gave them."""
        for block in node.blocks:
            if block in self.held[node.name]:
                continue
            found = self._taken.overlapping(block)
            while found is not None and found[1] not in nodes:
                # The old owner is gone, and the cluster gave its block anew before our grace time was over.
                self._taken.remove(found[0])
                self.held[found[1]].remove(found[0])
                found = self._taken.overlapping(block)
            if found is not None:
                self._conflict(node.name, block, *found)
                continue
            self._taken.add(block, node.name)
            self.held[node.name].append(block)

    def fill(self, node: Node, pools: list[IpPool], foreign: frozenset[int], closed: list[Prefix]) -> None:
        """Blocks for pods of every namespace; those in the ranges `closed` are none of them."""
        wanted, wrong = wanted_blocks(node)
        if wrong:
            self._say(node.name, FindingReason.INVALID_REQUEST, wrong)
        for version in (4, 6):
            eligible = [
                pool
                for pool in pools
                if pool.cidr.version == version and pool.node_selector.matches(node.labels)
            ]
            if not eligible:
                continue
            count = max(wanted.get(version, 0), 0 if version in foreign else 1)
            if count > MOST_BLOCKS:
                self._say(
                    node.name,
                    FindingReason.TOO_MANY_BLOCKS,
                    f"asks for {count} IPv{version} blocks; a node gets at most {MOST_BLOCKS}",
                )
                count = MOST_BLOCKS
            have = sum(
                1
                for block in self.held[node.name]
                if block.version == version and not any(contains(cidr, block) for cidr in closed)
            )
            if version in foreign and have == 0:
                continue  # its first block is the cluster's to give, and may be on the way
            for _ in range(count - have):
                if not self._assign(node.name, eligible):
                    names = ", ".join(pool.name for pool in eligible)
                    self._say(
                        node.name,
                        FindingReason.NO_BLOCK_FREE,
                        f"no IPv{version} block is free in the pools it may use: {names}; add a pool",
                    )
                    break

    def fill_reserved(self, node: Node, pools: Mapping[str, IpPool]) -> None:
        """Blocks for the pods of some namespaces: as many of each pool as the node asks for."""
        wanted, wrong = wanted_pools(node)
        if wrong:
            self._say(node.name, FindingReason.INVALID_REQUEST, wrong)
        for name, count in sorted(wanted.items()):
            pool = pools.get(name)
            if pool is None or not pool.node_selector.matches(node.labels):
                continue  # gone, refused or closed to it since it asked
            if count > MOST_BLOCKS:
                self._say(
                    node.name,
                    FindingReason.TOO_MANY_BLOCKS,
                    f"asks for {count} blocks of pool {name}; a node gets at most {MOST_BLOCKS}",
                )
            have = sum(1 for block in self.held[node.name] if contains(pool.cidr, block))
            for _ in range(min(count, MOST_BLOCKS) - have):
                if not self._assign(node.name, [pool]):
                    self._say(
                        node.name, FindingReason.NO_BLOCK_FREE, f"no block of pool {name} is free; add a pool"
                    )
                    break

    def say_gone(
        self, node: Node, usable: list[IpPool], foreign: frozenset[int], gone: Mapping[Prefix, str]
    ) -> None:
        """Why a node is left without a block of a family: the pool it would come from is no more."""
        for version in (4, 6):
            names = [name for cidr, name in gone.items() if cidr.version == version]
            mine = any(block.version == version for block in self.held.get(node.name, ()))
            open_to_it = any(
                pool.cidr.version == version and pool.node_selector.matches(node.labels) for pool in usable
            )
            if names and not mine and not open_to_it and version not in foreign:
                self._say(
                    node.name,
                    FindingReason.NO_BLOCK_FREE,
                    f"no IPv{version} block: IPPool {', '.join(names)} is gone; declare it again, or another",
                )

    def _assign(self, name: str, pools: list[IpPool]) -> bool:
        for pool in pools:
            search = self._searches.setdefault(pool.name, Search(pool.cidr, pool.block_size))
            block = search.next_free(self._taken, self._addresses)
            if block is not None:
                self._taken.add(block, name)
                self.held[name].append(block)
                return True
        return False

    def _conflict(self, name: str, block: Prefix, other: Prefix, owner: str) -> None:
        self._say(
            name,
            FindingReason.BLOCK_CONFLICT,
            f"its block {block} overlaps {other} of node {owner}, which has it by the controller's ledger",
        )

    def _say(self, name: str, reason: FindingReason, message: str) -> None:
        self.findings.append(Contradiction(Kind.NODE, ObjectName("", name), reason, message))
