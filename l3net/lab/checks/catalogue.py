"""Every check, in the order in which they are told."""

from __future__ import annotations

from typing import Final

from l3net.lab.checks import disturb, reach, routing, surviving
from l3net.lab.checks.report import Check

CHECKS: Final[tuple[Check, ...]] = (
    Check("sessions", "BGP sessions are established", routing.sessions),
    Check("router-rib", "Routers hold exactly the blocks and services, by every equal way", routing.ribs),
    Check("pod-to-pod-same-node", "Pods of one node reach one another", reach.pods_of_one_node),
    Check("pod-to-pod-across-nodes", "Pods reach pods of other nodes", reach.pods_of_other_nodes),
    Check("client-to-pods", "A client outside reaches every pod", reach.client_to_pods),
    Check(
        "client-to-service", "A client outside reaches every endpoint of a service", reach.client_to_services
    ),
    Check(
        "pod-to-own-service", "A pod reaches the service it backs, itself included", reach.pods_to_services
    ),
    Check("traceroute", "The way from outside shows each router, and no tunnel", reach.traceroute),
    Check("pod-keeps-address", "The outside sees a pod's own address", reach.pods_to_client),
    Check("masquerade", "With natOutgoing the outside sees the node", disturb.masquerade, disturbs=True),
    Check("pod-again", "A pod deleted and made again works", disturb.pod_again, disturbs=True),
    Check(
        "agent-killed", "An agent killed drops no session and no packet", disturb.agent_killed, disturbs=True
    ),
    Check("self-heal", "What is deleted of ours is back within a second", disturb.self_heal, disturbs=True),
    Check(
        "connections-survive",
        "Connections balanced consistently live while a node goes and comes",
        surviving.connections_survive,
        disturbs=True,
    ),
    Check("node-cut-off", "A node cut off disappears and comes back", disturb.cut_off, disturbs=True),
)

#: Not among the others, since a router needs its hold time to notice.
SILENT: Final = Check(
    "node-cut-off-silently",
    "A node that falls silent disappears and comes back",
    disturb.cut_off_silently,
    disturbs=True,
)
