"""Which other nodes are away, as far as BGP tells: long before their Nodes say so, where BFD watches paths.

A router that had announced a node's blocks and does no more has lost the node. Its word counts more than
that of the node's own session with this one (the mesh), which may last for its hold time. But where it
announces no other node's blocks either, while sessions with nodes are up, it is the router that has
changed, not the nodes. Where no router ever announced them, the sessions with nodes tell. Where no peer
is left it is this node that is cut off, and nothing is said of others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from l3net.model import Prefix

log = logging.getLogger("l3net.egress")

ROUTERS: Final = False
MESH: Final = True


class Reachable:
    """`told`: for each path of a prefix that peers announce, whether it is by a session of the mesh;
    `established`: the same of each session that is up."""

    def __init__(
        self, told: Callable[[Prefix], Iterable[bool]], established: Callable[[], Iterable[bool]]
    ) -> None:
        self._told, self._established = told, established
        self._blocks: Mapping[str, Collection[Prefix]] = {}
        self._nodes: dict[Prefix, str] = {}
        self._heard: dict[bool, dict[str, bool]] = {ROUTERS: {}, MESH: {}}  # by mesh, of nodes ever heard of
        self._lost: frozenset[str] = frozenset()

    def follow(self, blocks: Mapping[str, Collection[Prefix]]) -> None:
        """The blocks of other nodes."""
        self._blocks = blocks
        self._nodes = {block: name for name, its in blocks.items() for block in its}
        for heard in self._heard.values():
            for name in heard.keys() - blocks.keys():
                del heard[name]
        self.look(self._nodes)

    def look(self, touched: Iterable[Prefix]) -> None:
        """What peers announce of these prefixes may be another."""
        for name in {self._nodes[block] for block in touched if block in self._nodes}:
            ways = {mesh for block in self._blocks[name] for mesh in self._told(block)}
            for mesh, heard in self._heard.items():
                if mesh in ways or name in heard:
                    heard[name] = mesh in ways

    @property
    def lost(self) -> frozenset[str]:
        """The nodes that are away."""
        up = set(self._established())
        by_routers, by_nodes = self._heard[ROUTERS], self._heard[MESH]
        some = any(by_routers.values())
        found = {
            name
            for name, heard in by_routers.items()
            if not heard and ROUTERS in up and (some or not by_nodes.get(name))
        }
        found |= {name for name, heard in by_nodes.items() if not heard and up and name not in by_routers}
        now = frozenset(found)
        for name in sorted(now - self._lost):
            log.warning(
                "node %s: its blocks are not announced any more; others hold its egress addresses", name
            )
        for name in sorted(self._lost - now):
            log.info("node %s: its blocks are announced again", name)
        self._lost = now
        return now
