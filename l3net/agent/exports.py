"""What each peer hears of this node, and why not the rest: one verdict for each peer and prefix of ours."""

from __future__ import annotations

from typing import Any

from l3net.addresses import prefix_order
from l3net.agent.loop import Agent
from l3net.announce.source import NodeView, Source
from l3net.announce.sources import reasons, verdict
from l3net.bgp.peering import Peering
from l3net.bgp.verdict import Export
from l3net.model import Family, Prefix


def exports(agent: Agent) -> dict[str, Any]:
    """Rows of peer, prefix, what it is, whose, and the verdict. What a router passes on is not among them."""
    view = agent.announcing.view(agent.state)
    ours = sorted(reasons(view), key=lambda row: (prefix_order(row[1].prefix), row[1].of))
    rows = []
    for address, peer in agent.speaking.peers.items():
        wanted = agent.speaking.wanted(address)
        for source, each in ours:
            path = wanted.get(each.prefix)
            rows.append(
                {
                    "peer": str(address),
                    "name": peer.session.name,
                    "prefix": str(each.prefix),
                    "kind": each.kind,
                    "service": each.of,
                    "communities": sorted(map(str, path.attributes.communities)) if path else [],
                    "verdict": each.refusal or _verdict(agent, view, peer, source, each.prefix),
                }
            )
    return {"routes": rows}


def _verdict(agent: Agent, view: NodeView, peer: Peering, source: Source, prefix: Prefix) -> str:
    found, by = verdict(view, peer.session, source, prefix, agent.draining.stage)
    if found is Export.ANNOUNCED:
        if not peer.established:
            found = Export.SESSION_DOWN
        elif Family(prefix.version) not in peer.negotiated:
            found = Export.FAMILY_NOT_NEGOTIATED
    return f"{found.value}:{by}" if by else found.value
