"""Every check, in the order in which they are told."""

from __future__ import annotations

from typing import Final

from l3net.lab.checks import disturb, reach, routing, surviving
from l3net.lab.checks.report import Check

CHECKS: Final[tuple[Check, ...]] = (
    Check("sessions", "BGP sessions are established", routing.sessions),
    Check("router-rib", "Routers have exactly the expected routes, over all equal paths", routing.ribs),
    Check("pod-to-pod-same-node", "Pods of one node reach each other", reach.pods_of_one_node),
    Check("pod-to-pod-across-nodes", "Pods reach pods of other nodes", reach.pods_of_other_nodes),
    Check("client-to-pods", "A client outside reaches every pod", reach.client_to_pods),
    Check(
        "client-to-service", "A client outside reaches every endpoint of a service", reach.client_to_services
    ),
    Check(
        "pod-to-own-service", "A pod reaches the service it backs, itself included", reach.pods_to_services
    ),
    Check("traceroute", "Traceroute from outside shows each router and no tunnel", reach.traceroute),
    Check("pod-keeps-address", "The client sees the pod's own address", reach.pods_to_client),
    Check(
        "masquerade", "With natOutgoing the client sees the node's address", disturb.masquerade, disturbs=True
    ),
    Check("pod-again", "A pod that is deleted and created again works", disturb.pod_again, disturbs=True),
    Check(
        "agent-killed",
        "Killing the agent loses no session and no packet",
        disturb.agent_killed,
        disturbs=True,
    ),
    Check(
        "self-heal",
        "Deleted routes, rules and the bridge are restored within 1 s",
        disturb.self_heal,
        disturbs=True,
    ),
    Check(
        "connections-survive",
        "Balanced connections survive a node's loss and return",
        surviving.connections_survive,
        disturbs=True,
    ),
    Check("node-cut-off", "The routes of a failed node disappear and return", disturb.cut_off, disturbs=True),
)

#: Not among the others, since a router needs its hold time to notice.
SILENT: Final = Check(
    "node-cut-off-silently",
    "The routes of a silent node disappear and return",
    disturb.cut_off_silently,
    disturbs=True,
)
