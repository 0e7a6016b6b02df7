"""Where each host of a topology stands in a picture: clients and spines above, nodes below."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.lab.topology import Link, Topology


@dataclass(frozen=True, slots=True)
class Box:
    """A host in the picture. Rows count from the top; the first line is its name."""

    host: str
    row: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    rows: tuple[tuple[Box, ...], ...]
    links: tuple[Link, ...]

    def box(self, host: str) -> Box:
        return next(box for row in self.rows for box in row if box.host == host)


def layout(topology: Topology) -> Layout:
    """Rows by distance from the nodes; a client stands one row above the router it hangs from."""
    depth = _depths(topology)
    deepest = max(depth.values(), default=0)
    rows: list[list[Box]] = [[] for _ in range(deepest + 1)]
    for host in topology.hosts:
        row = deepest - depth[host]
        rows[row].append(Box(host, row, _lines(topology, host)))
    return Layout(tuple(tuple(row) for row in rows if row), topology.links)


def _depths(topology: Topology) -> dict[str, int]:
    depth = {node.name: 0 for node in topology.nodes}
    frontier = list(depth)
    routers = {router.name for router in topology.routers}
    while frontier:
        reached = []
        for host in frontier:
            for link in topology.links_of(host):
                far = link.far_end(host).host
                if far in routers and far not in depth:
                    depth[far] = depth[host] + 1
                    reached.append(far)
        frontier = reached
    for router in routers - depth.keys():
        depth[router] = 1
    for client in topology.clients:
        depth[client.name] = 1 + max(
            depth[link.far_end(client.name).host] for link in topology.links_of(client.name)
        )
    return depth


def _lines(topology: Topology, host: str) -> tuple[str, ...]:
    router, node = topology.router(host), topology.node(host)
    if router is not None:
        return (host, f"{router.kind.value} AS {router.as_number}")
    if node is not None:
        return (host, f"AS {topology.as_number}", *map(str, node.blocks), *node.pods)
    return (host, *(str(topology.address(host, version)) for version in topology.versions))
