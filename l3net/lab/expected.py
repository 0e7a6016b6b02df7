"""What each router must hold once everything is up: pure, from the topology alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from l3net.addresses import contains, host_prefix
from l3net.lab.topology import Topology
from l3net.model import Address, Prefix

#: prefix -> the neighbours (addresses of sessions) that share its traffic
Rib: TypeAlias = Mapping[Prefix, frozenset[Address]]


@dataclass(frozen=True, slots=True)
class Origins:
    """Which nodes announce a prefix."""

    prefix: Prefix
    nodes: frozenset[str]


def announced(topology: Topology, without: Collection[str] = ()) -> tuple[Origins, ...]:
    """Blocks from their nodes; a ClusterIP from every node, or with policy Local from those with an endpoint.

    `without` are nodes that are cut off. A service whose every endpoint is cut off is still announced by the
    others: nobody has said that its endpoints are not ready.
    """
    present = [node for node in topology.nodes if node.name not in without]
    found = [Origins(block, frozenset({node.name})) for node in present for block in node.blocks]
    for service in topology.services:
        homes = {topology.pods[pod].name for pod in service.pods}
        if not homes:
            continue
        nodes = frozenset(node.name for node in present if not service.internal_local or node.name in homes)
        found += [Origins(host_prefix(address), nodes) for address in service.cluster_ips]
    return tuple(origins for origins in found if origins.nodes)


def expected_ribs(topology: Topology, without: Collection[str] = ()) -> dict[str, Rib]:
    """Router -> prefix -> neighbours, by shortest AS path with multipath; each router has its own AS."""
    ribs: dict[str, dict[Prefix, frozenset[Address]]] = {router.name: {} for router in topology.routers}
    for origins in announced(topology, without):
        distance = _distances(topology, origins.nodes)
        for router, rib in ribs.items():
            hops = frozenset(
                session.remote
                for session in topology.sessions(router)
                if session.remote.version == origins.prefix.version
                and router in distance
                and distance.get(session.remote_host, -1) == distance[router] - 1
            )
            if hops:
                rib[origins.prefix] = hops
    return {router: dict(rib) for router, rib in ribs.items()}


def _distances(topology: Topology, nodes: frozenset[str]) -> dict[str, int]:
    """AS path length at each router, from the nodes that announce."""
    distance = dict.fromkeys(nodes, 0)
    routers = {router.name for router in topology.routers}
    frontier = list(nodes)
    while frontier:
        reached: list[str] = []
        for host in frontier:
            for link in topology.links_of(host):
                far = link.far_end(host).host
                if far in routers and far not in distance:
                    distance[far] = distance[host] + 1
                    reached.append(far)
        frontier = reached
    return distance


def is_cluster_prefix(topology: Topology, prefix: Prefix) -> bool:
    """Whether a prefix is one the nodes are responsible for: a pod block or a service address."""
    ranges = (*(pool.cidr for pool in topology.pools), *topology.service_cidrs)
    return any(contains(cidr, prefix) for cidr in ranges)


def difference(want: Rib, seen: Rib) -> list[str]:
    """What is missing, too much or reached differently, in words."""
    lines = [f"{prefix} is missing" for prefix in want if prefix not in seen]
    lines += [f"{prefix} should not be there" for prefix in seen if prefix not in want]
    lines += [
        f"{prefix} via {_hops(seen[prefix])} instead of {_hops(hops)}"
        for prefix, hops in want.items()
        if prefix in seen and seen[prefix] != hops
    ]
    return lines


def _hops(hops: frozenset[Address]) -> str:
    return " and ".join(sorted(map(str, hops))) or "nothing"
