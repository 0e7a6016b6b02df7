"""Blocks that are no longer a node's while pods still run in them.

A Node may lose a block (podCIDRs replaced by hand, an annotation taken away). Its pods have their addresses
and their gateway for life, so the block stays with the node until the last of them is gone; nobody gets a new
address out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from l3net.addresses import prefix_order
from l3net.model import Node, Prefix


def retained(
    declared: Collection[Prefix], had: Iterable[Prefix], holds: Callable[[Prefix], bool]
) -> tuple[Prefix, ...]:
    """The blocks that the node had and was not left without pods in; `holds` tells of an address in use."""
    lost = {block for block in had if block not in declared and holds(block)}
    return tuple(sorted(lost, key=prefix_order))


def claimant(block: Prefix, nodes: Iterable[Node], me: str) -> str:
    """The name of another node that a block, or a part of it, is by now; empty if it is nobody's."""
    return next(
        (
            node.name
            for node in nodes
            if node.name != me
            for other in node.blocks
            if other.version == block.version and other.overlaps(block)
        ),
        "",
    )
