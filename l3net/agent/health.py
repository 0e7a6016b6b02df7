"""Whether the agent is ready, as a probe asks: a rolling update goes on to the next node when it is."""

from __future__ import annotations

from typing import Final

from l3net.agent.loop import Agent

#: How long after its start the agent waits for all sessions, in seconds; then one has to do.
STARTING = 120.0
#: Seconds that peers have to hear of the node's blocks, from when the speaker is there: a router may be down
#: for long.
PATIENCE: Final = 30.0


def unready(agent: Agent) -> str:
    """Why the agent is not ready; empty when it is.

    Right after the start every session has to have been up, so that an update which breaks BGP stops at the
    first node. Later one session is enough: a router that is down for its own reasons is no fault of ours.
    """
    if why := _undecided(agent):
        return why
    peers = agent.speaking.peers
    if not peers or agent.speaking.parted:  # none, or as the node was told
        return ""
    missing = [str(address) for address, peer in peers.items() if not (peer.established or peer.flaps)]
    if missing and not agent.speaking.settled(STARTING):
        return f"waiting for the sessions with {', '.join(sorted(missing)[:5])}"
    if not any(peer.established for peer in peers.values()):
        return "no session is established"
    return ""


def unreachable(agent: Agent) -> str:
    """Why pods that are attached now cannot be reached yet; empty when they can, or when the peers had
    PATIENCE for it: pods of a node whose routers are away still reach one another."""
    speaking = agent.speaking
    if why := _undecided(agent):
        return why
    if not speaking.peers or speaking.parted or speaking.settled(PATIENCE):
        return ""
    return unready(agent) or "waiting for the routes of the peers"


def _undecided(agent: Agent) -> str:
    """Why what is declared is not in force."""
    if not agent.in_sync:
        return "the declared state is not complete yet"
    if why := agent.declared.holding():
        return why
    return "" if agent.passes else "the first pass is not done yet"
