"""Whether an announced aggregate keeps this node from pods of others, in words."""

from __future__ import annotations

from l3net.agent.loop import Agent
from l3net.fib.aggregates import without_a_way


def swallowed_blocks(agent: Agent) -> list[str]:
    """A sentence where packets for other nodes' pods end in the blackhole behind an aggregate."""
    networks = agent.state.configuration.advertise.networks
    if not networks or not agent.passes:
        return []
    owners = {
        block: node.name
        for node in agent.state.nodes.values()
        if node.name != agent.node_name and node.ready
        for block in node.blocks
    }
    lost = without_a_way(owners, networks, agent.kernel.desired.keys(), agent.routing.underlay)
    if not lost:
        return []
    return [
        f"advertise.networks: {len(lost)} blocks of other nodes are inside what is announced, and no route "
        f"leads to them, so packets for their pods are dropped here (for example {lost[0]} of node "
        f"{owners[lost[0]]}); have this node learn them (`l3net bgp routes --rejected` tells what stands in "
        "the way), or give up the network"
    ]
