"""Whether the agent is ready, as a probe asks: a rolling update goes on to the next node when it is."""

from __future__ import annotations

from l3net.agent.loop import Agent

#: How long after its start the agent waits for all sessions, in seconds; then one has to do.
STARTING = 120.0


def unready(agent: Agent) -> str:
    """Why the agent is not ready; empty when it is.

    Right after the start every session has to have been up, so that an update which breaks BGP stops at the
    first node. Later one session is enough: a router that is down for its own reasons is no fault of ours.
    """
    if not agent.in_sync:
        return "the declared state is not complete yet"
    if why := agent.declared.holding():
        return why
    if not agent.passes:
        return "the first pass is not done yet"
    peers = agent.speaking.peers
    if not peers or agent.speaking.parted:  # none, or as the node was told
        return ""
    missing = [str(address) for address, peer in peers.items() if not (peer.established or peer.flaps)]
    if missing and not agent.speaking.settled(STARTING):
        return f"waiting for the sessions with {', '.join(sorted(missing)[:5])}"
    if not any(peer.established for peer in peers.values()):
        return "no session is established"
    return ""
