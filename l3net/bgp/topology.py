"""Which nodes speak to which: a full mesh, or clients of route reflectors (RFC 4456)."""

from __future__ import annotations

import hashlib

from l3net.model import ClusterState, Topology

#: How many reflectors are chosen where no selector names them.
ELECTED = 3


def reflectors(state: ClusterState) -> frozenset[str]:
    """Names of the nodes that reflect; empty for a full mesh.

    With `topology: Auto` there are some once the cluster has as many nodes as `reflectorsFrom`. Without a
    selector the nodes whose names hash lowest are chosen: every node comes to the same answer, and one more
    node rarely changes it.
    """
    configuration = state.configuration
    if not configuration.mesh or configuration.topology is Topology.MESH:
        return frozenset()
    if configuration.topology is Topology.AUTO and len(state.nodes) < configuration.reflectors_from:
        return frozenset()
    if configuration.reflector_selector is not None:
        selector = configuration.reflector_selector
        return frozenset(node.name for node in state.nodes.values() if selector.matches(node.labels))
    ranked = sorted(state.nodes, key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(ranked[:ELECTED])


def wanted_mesh_peers(state: ClusterState, me: str) -> tuple[str, ...]:
    """The nodes that `me` holds a mesh session with, in order of name.

    A cluster whose selector selects no node falls back to the full mesh: better many sessions than none.
    """
    if not state.configuration.mesh:
        return ()
    chosen = reflectors(state)
    others = sorted(name for name in state.nodes if name != me)
    if not chosen or me in chosen:
        return tuple(others)
    return tuple(name for name in others if name in chosen)
