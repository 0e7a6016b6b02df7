"""Why no path of a peer is used, where its next hops lead nowhere, in words."""

from __future__ import annotations

from l3net.agent.loop import Agent
from l3net.agent.resolving import off_link


def peers_off_link(agent: Agent) -> list[str]:
    """A sentence for each eBGP peer that is on no link of this node, and not said to be further away."""
    return [
        f"peer {session.name}: {address} is on no link of this node, so that none of its routes is used; "
        "if it is several hops away, give it `multihop`"
        for address, session in agent.sessions.by_address.items()
        if off_link(agent.routing.underlay, session)
    ]
