"""The blocks that the node's pods have their addresses from."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.addresses import contains
from l3net.announce.source import Announcement, NodeView, Source
from l3net.ipam.retained import claimant
from l3net.model import ClusterState, Prefix


def own_blocks(state: ClusterState, me: str) -> tuple[Prefix, ...]:
    """The node's blocks that may be announced: not those of a pool with `advertise: false`.

    One that is no longer the node's is announced for the pods it has left, unless another node has it by now:
    that node's pods would lose their traffic to this one.
    """
    node = state.nodes.get(me)
    if node is None or not state.configuration.advertise.pod_blocks:
        return ()
    silent = [pool.cidr for pool in state.pools.values() if not pool.advertise]
    return tuple(
        block
        for block in node.blocks
        if not any(contains(cidr, block) for cidr in silent)
        and not (block in node.retained and claimant(block, state.nodes.values(), me))
    )


def _prefixes(view: NodeView) -> tuple[Prefix, ...]:
    return own_blocks(view.state, view.me)


def _reasons(view: NodeView) -> Iterator[Announcement]:
    return (Announcement(block, "block") for block in _prefixes(view))


BLOCKS = Source("blocks", _prefixes, _reasons)
