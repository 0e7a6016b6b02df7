"""Who is at which address, for whoever shows connections: pods, nodes, services, blocks."""

from __future__ import annotations

from typing import Any

from l3net.agent.loop import Agent
from l3net.agent.policyanswers import view_of
from l3net.services.verdicts import addresses


def names(agent: Agent) -> dict[str, Any]:
    """`services` by `ADDRESS PROTOCOL PORT`, and by `node PROTOCOL PORT` those of NodePorts."""
    view, state = view_of(agent), agent.state
    pods = {
        str(address): str(pod.name)
        for pod in view.pods()
        if not pod.host_network
        for address in view.addresses(pod)
    }
    for _, attached in agent.pods.attached():
        if attached.named:
            pods.update((str(address), str(attached.pod)) for address in attached.addresses)
    services: dict[str, str] = {}
    for name, service in sorted(state.services.items()):
        for port in service.ports:
            protocol = port.protocol.lower()
            for _, address in addresses(service):
                services.setdefault(f"{address} {protocol} {port.port}", str(name))
            if port.node_port:
                services.setdefault(f"node {protocol} {port.node_port}", str(name))
    return {
        "node": agent.node_name,
        "pods": pods,
        "nodes": {str(address): name for name, node in state.nodes.items() for address in node.addresses},
        "services": services,
        "peers": {str(address): peer.session.name for address, peer in agent.speaking.peers.items()},
        "blocks": {str(block): name for name, node in state.nodes.items() for block in node.blocks},
    }
