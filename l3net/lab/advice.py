"""What is allowed in a topology and does hardly what its author wants."""

from __future__ import annotations

from l3net.lab.topology import Topology


def warnings(topology: Topology) -> list[str]:
    """A sentence for each two routers of one AS that hide nodes from one another (RFC 4271 section 9.1.2): a
    router refuses a route that has its own AS in the path."""
    routers = {router.name: router.as_number for router in topology.routers}
    found = []
    for first in sorted(routers):
        for second in sorted(routers):
            same = first < second and routers[first] == routers[second] != topology.as_number
            if not same or second in _neighbours(topology, first):
                continue
            hidden = [
                f"{router} gets no route from {', '.join(nodes)}"
                for router in (first, second)
                if (nodes := _hidden_from(topology, router))
            ]
            if hidden:
                found.append(
                    f"{first} and {second} are both in AS {routers[first]}: {'; '.join(hidden)}. A router "
                    f"refuses a route with its own AS in the path: give each an asNumber of its own"
                )
    return found


def _hidden_from(topology: Topology, router: str) -> list[str]:
    """Nodes whose routes reach the router only through others of its AS."""
    own = topology.as_number_of(router)
    reached, frontier = {router}, [router]
    while frontier:
        for far in _neighbours(topology, frontier.pop()):
            through = topology.router(far) is not None and topology.as_number_of(far) != own
            if far not in reached and (through or topology.node(far) is not None):
                reached.add(far)
                if through:
                    frontier.append(far)
    ours = {far for far in _neighbours(topology, router) if topology.as_number_of(far) == own}
    beside = {far for each in ours for far in _neighbours(topology, each)}
    return [node.name for node in topology.nodes if node.name not in reached | beside]


def _neighbours(topology: Topology, host: str) -> set[str]:
    return {link.far_end(host).host for link in topology.links_of(host)}
