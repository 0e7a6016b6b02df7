"""What each peer hears of this node, and why not the rest: one verdict for each peer and prefix of ours."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from l3net.agent.loop import Agent
from l3net.bgp.adj_rib_out import export_verdict, own_blocks
from l3net.bgp.loc_rib import prefix_order
from l3net.bgp.peering import Peering
from l3net.bgp.verdict import Export
from l3net.model import Family, Prefix


def exports(agent: Agent) -> dict[str, Any]:
    """Rows of peer, prefix, what it is, whose, and the verdict. What a router passes on is not among them."""
    state = agent.state
    ours: list[tuple[Prefix, str, str, str]] = [  # prefix, kind, of which object, the node's own refusal
        *((block, "block", "", "") for block in own_blocks(state, agent.node_name)),
        *((network, "network", "", "") for network in state.configuration.advertise.networks),
    ]
    for verdict in agent.verdicts:
        refused = "" if verdict.advertised else verdict.reason.value
        ours.append((ip_network(verdict.address), verdict.kind.value, str(verdict.service), refused))
    ours.sort(key=lambda row: (prefix_order(row[0]), row[2]))
    rows = []
    for address, peer in agent.speaking.peers.items():
        wanted = agent.speaking.wanted(address)
        for prefix, kind, of, refused in ours:
            path = wanted.get(prefix)
            rows.append(
                {
                    "peer": str(address),
                    "name": peer.session.name,
                    "prefix": str(prefix),
                    "kind": kind,
                    "service": of,
                    "communities": sorted(map(str, path.attributes.communities)) if path else [],
                    "verdict": refused or _verdict(agent, peer, prefix, service=bool(of)),
                }
            )
    return {"routes": rows}


def _verdict(agent: Agent, peer: Peering, prefix: Prefix, *, service: bool) -> str:
    found, by = export_verdict(agent.state, peer.session, prefix, agent.draining.stage, service=service)
    if found is Export.ANNOUNCED:
        if not peer.established:
            found = Export.SESSION_DOWN
        elif Family(prefix.version) not in peer.negotiated:
            found = Export.FAMILY_NOT_NEGOTIATED
    return f"{found.value}:{by}" if by else found.value
