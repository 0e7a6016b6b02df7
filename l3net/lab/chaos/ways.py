"""What is left of a topology while parts of it are cut, and whether a way is: pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from l3net.lab.chaos.fault import Cut
from l3net.lab.topology import Topology


def left(topology: Topology, cuts: Collection[Cut]) -> Topology:
    """The topology without the links that are cut, and without those of hosts that are."""
    gone = {cut.host for cut in cuts if not cut.far}
    pairs = {frozenset((cut.host, cut.far)) for cut in cuts if cut.far}
    kept = tuple(
        link
        for link in topology.links
        if (ends := frozenset(end.host for end in link.ends)) not in pairs and not ends & gone
    )
    return replace(topology, links=kept)


def has_way(topology: Topology, near: str, far: str) -> bool:
    """Whether packets find from one host to another over routers."""
    if near == far:
        return True
    routers = {router.name for router in topology.routers}
    seen, frontier = {near}, [near]
    while frontier:
        reached = []
        for host in frontier:
            for link in topology.links_of(host):
                other = link.far_end(host).host
                if other == far:
                    return True
                if other in routers and other not in seen:
                    seen.add(other)
                    reached.append(other)
        frontier = reached
    return False
