"""What declared objects say that may be meant so, and hardly is: names and selectors that fit no Node, blocks
outside of every pool. A warning, no error: the Node may come later.

Only for who knows every Node and IPPool, as `l3net validate` does of a directory: an agent may know its own
Node alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from l3net.addresses import contains
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import BgpPeer, ClusterState, Kind, Node, ObjectName, PoolUse, Selector
from l3net.near import did_you_mean


def doubts(state: ClusterState) -> list[Contradiction]:
    """Every doubt, in a fixed order; none about Nodes where none is declared."""
    if not state.nodes:
        return []
    return [
        *(found for _, peer in sorted(state.peers.items()) for found in _peer(peer, state)),
        *_reflectors(state),
        *_outside(state),
    ]


def _peer(peer: BgpPeer, state: ClusterState) -> Iterator[Contradiction]:
    about = ObjectName("", peer.name)
    for name in peer.nodes:
        if name not in state.nodes:
            yield Contradiction(
                Kind.BGP_PEER,
                about,
                FindingReason.NAMES_NO_NODE,
                f"spec.nodes has {name}, and no Node of that name is declared"
                f"{did_you_mean(name, state.nodes)}",
            )
    chosen = [node for name, node in state.nodes.items() if not peer.nodes or name in peer.nodes]
    if chosen and _selects_none(peer.node_selector, chosen):
        yield _of_nobody(Kind.BGP_PEER, about, "nodeSelector", "nobody has a session with this peer")
    if _selects_none(peer.peer_selector, state.nodes.values()):
        yield _of_nobody(Kind.BGP_PEER, about, "peerSelector", "there is nobody to have a session with")


def _reflectors(state: ClusterState) -> Iterator[Contradiction]:
    if _selects_none(state.configuration.reflector_selector, state.nodes.values()):
        yield _of_nobody(
            Kind.BGP_CONFIGURATION,
            ObjectName("", "default"),
            "routeReflector.nodeSelector",
            "the full mesh stays",
        )


def _selects_none(selector: Selector | None, nodes: Iterable[Node]) -> bool:
    """Whether there is a selector, and it fits none of the nodes."""
    return selector is not None and not any(selector.matches(node.labels) for node in nodes)


def _of_nobody(kind: Kind, about: ObjectName, field: str, result: str) -> Contradiction:
    text = f"spec.{field} selects no declared Node: {result}"
    return Contradiction(kind, about, FindingReason.SELECTS_NO_NODE, text)


def _outside(state: ClusterState) -> Iterator[Contradiction]:
    """Blocks of Nodes that no pool for pods of their family holds, where there is such a pool."""
    pools = [pool for pool in state.pools.values() if PoolUse.PODS in pool.allowed_uses]
    for name, node in sorted(state.nodes.items()):
        for block in node.blocks:
            near = [pool for pool in pools if pool.cidr.version == block.version]
            if near and not any(contains(pool.cidr, block) for pool in near):
                yield Contradiction(
                    Kind.NODE,
                    ObjectName("", name),
                    FindingReason.BLOCK_OUTSIDE_POOLS,
                    f"its block {block} lies in no IPPool for pods: what pools say, such as natOutgoing,"
                    " does not hold for its pods",
                )
