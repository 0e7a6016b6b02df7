"""What is shown of each peer: its row in the status, and what who asks for peers alone is told beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from l3net.agent.loop import Agent
from l3net.agent.tally import Tally
from l3net.bgp.peer_reasons import Attempt, Notice, Reset
from l3net.bgp.peering import Peering
from l3net.bgp.sessions import UNKNOWN_AS, Refusal, node_as_number, router_id
from l3net.model import Address, BgpPeer, Family

REFUSED = "ExaBGP refuses its configuration"


def peer_rows(agent: Agent, tallies: Mapping[Address, Tally]) -> list[dict[str, Any]]:
    """Of each session, and of each declared peer that has none."""
    now = asyncio.get_running_loop().time()
    rows = []
    for address, peer in agent.speaking.peers.items():
        tally = tallies[address]
        rows.append(
            {
                "name": peer.session.name,
                "address": str(address),
                "asNumber": None if peer.session.peer_as == UNKNOWN_AS else peer.session.peer_as,
                "localAddress": str(peer.session.local_address),
                "interface": (peer.session.source_interface or "") if address.is_link_local else "",
                "port": peer.session.port,
                "listenPort": peer.session.listen_port,
                "password": peer.session.password is not None,
                "gtsm": peer.session.gtsm,
                "passive": peer.session.passive,
                "type": "eBGP" if peer.session.external else "iBGP",
                "state": "established" if peer.established else "down",
                "fsm": "Established" if peer.established else agent.speaking.queues.fsm(address),
                "reason": REFUSED if address in agent.speaking.refused else peer.reason,
                "sinceSeconds": round(now - peer.since, 1),
                "flaps": peer.flaps,
                "received": tally.received,
                "accepted": tally.accepted,
                "refused": tally.refused,
                "overLimit": sorted(f"IPv{family.value}" for family in peer.over_limit),
                "announced": agent.speaking.queues.announced(address),
                "bfd": agent.bfd.status(address, now),
                **neighbor_detail(agent, peer, now),
            }
        )
    return rows + [_refused_peer(refusal, agent.state.peers) for refusal in _of_declared(agent)]


def _of_declared(agent: Agent) -> list[Refusal]:
    """What stands against BGPPeers; the mesh's refusals are no rows, for nobody declared those peers."""
    declared = agent.state.peers
    return [each for each in agent.sessions.refusals if each.name.partition("/")[0] in declared]


def _refused_peer(refusal: Refusal, declared: Mapping[str, BgpPeer]) -> dict[str, Any]:
    """A row for a peer that has no session at all, with the reason: it is declared, and so it is shown."""
    address = declared[refusal.name.partition("/")[0]].address
    peer = {
        "name": refusal.name,
        "address": str(address or ""),
        "asNumber": None,
        "localAddress": "",
        "interface": "",
    }
    counts = dict.fromkeys(("sinceSeconds", "flaps", "received", "accepted", "announced"), 0)
    no = dict.fromkeys(("password", "gtsm", "passive"), False)
    return {
        **peer,
        **no,
        **counts,
        "port": 0,
        "listenPort": 0,
        "type": "",
        "state": "refused",
        "fsm": "",
        "reason": f"{refusal.reason.value}{': ' * bool(refusal.detail)}{refusal.detail}",
        "refused": {},
        "overLimit": [],
        "bfd": None,
        **dict.fromkeys(("stale", "outQueue", "stuckSeconds"), 0),
        **dict.fromkeys(("syncing", "unansweredRefresh"), ()),
        **dict.fromkeys(("negotiated", "lastReset", "lastAttempt")),
    }


async def neighbors(agent: Agent, _question: str = "") -> dict[str, Any]:
    """The answer to `neighbors`: this node as a speaker, and each peer with its counters as they are now."""
    await agent.speaking.queues.fresh()
    tallies = {address: Tally.of(agent, peer.session) for address, peer in agent.speaking.peers.items()}
    now = asyncio.get_running_loop().time()
    rows = peer_rows(agent, tallies)
    for peer, row in zip(agent.speaking.peers.values(), rows, strict=False):  # then those without a session
        row.update(_told_beside(agent, peer, now))
    state = agent.state
    node = state.nodes.get(agent.node_name)
    return {
        "node": agent.node_name,
        "routerID": str(router_id(node)) if node is not None else "",
        "asNumber": node_as_number(state, node) if node is not None else state.configuration.as_number,
        "prefixes": agent.rib.prefix_count,
        "speakerConnected": agent.speaking.connected,
        "neighbors": rows,
    }


def _told_beside(agent: Agent, peer: Peering, now: float) -> dict[str, Any]:
    """Of one peer, beyond its row in the status."""
    session, address = peer.session, peer.session.peer_address
    counts = agent.speaking.queues.messages(address)
    hears = agent.speaking.peers.hears(address)
    return {
        "localASNumber": session.local_as,
        "localRouterID": str(session.router_id),
        "configured": {
            "holdTime": session.hold_time,
            "sendHoldTime": session.send_hold_time,
            "gracefulRestart": session.graceful_restart,
            "families": _names(session.families),
            "multihop": session.multihop,
            "maxPrefixes": session.max_prefixes,
            "filters": list(session.filters),
        },
        "messages": None
        if counts is None
        else {"sent": dict(counts.sent), "received": dict(counts.received)},
        "byFamily": {
            f"IPv{family.value}": {
                "received": agent.rib.count(address, family),
                "wanted": sum(prefix.version == family.value for prefix in hears),
            }
            for family in sorted(session.families, key=lambda each: each.value)
        },
        "lastUpdateSeconds": round(now - peer.last_update, 1) if peer.established else None,
        "lastNotification": {
            "sent": _notice(peer.last_sent, now),
            "received": _notice(peer.last_received, now),
        },
    }


def _notice(notice: Notice | None, now: float) -> dict[str, Any] | None:
    if notice is None:
        return None
    return {
        "sinceSeconds": round(now - notice.at, 1),
        "code": notice.notification.code,
        "subcode": notice.notification.subcode,
        "name": notice.notification.name,
        "text": notice.text,
    }


def neighbor_detail(agent: Agent, peer: Peering, now: float) -> dict[str, Any]:
    """Fields of the peer's row in the status. Times in seconds; families as in BGPPeer.spec.families."""
    address = peer.session.peer_address
    return {
        "syncing": _names(peer.awaiting) if peer.established else [],
        "stale": sum(count for entry, count in agent.rib.kinds(address) if entry.stale),
        "unansweredRefresh": _names(peer.unanswered),
        "outQueue": agent.speaking.queues.out_queue(address),
        "stuckSeconds": round(agent.speaking.queues.stuck(address), 1),
        "negotiated": _negotiated(peer) if peer.established and peer.opened is not None else None,
        "lastReset": _reset(peer.last_reset, now),
        "lastAttempt": _attempt(peer.last_attempt, now),
    }


def _negotiated(peer: Peering) -> dict[str, Any] | None:
    opened = peer.opened
    if opened is None:
        return None
    hold = min(opened.hold_time, peer.session.hold_time)
    return {
        "routerID": opened.router_id,
        "families": _names(peer.negotiated),
        "holdTime": hold,
        "keepaliveTime": hold // 3,  # RFC 4271 section 4.4
        "capabilities": list(opened.capabilities),
        "software": opened.software,
        "routeRefresh": opened.refresh,
        "gracefulRestart": None
        if opened.graceful_restart is None
        else {
            "restartTime": opened.graceful_restart,
            "families": _names(opened.preserved),
            "preserved": _names(opened.forwarding),
            "kept": _names(peer.kept),
        },
    }


def _reset(reset: Reset | None, now: float) -> dict[str, Any] | None:
    if reset is None:
        return None
    notification = reset.notification
    told = notification is not None
    return {
        "sinceSeconds": round(now - reset.at, 1),
        "reason": str(reset),
        "direction": ("received" if notification.received else "sent") if notification else "",
        "code": notification.code if notification else None,
        "subcode": notification.subcode if notification else None,
        "name": notification.name if notification else "",
        "text": reset.text if told else "",
    }


def _attempt(attempt: Attempt | None, now: float) -> dict[str, Any] | None:
    if attempt is None:
        return None
    return {
        "sinceSeconds": round(now - attempt.at, 1),
        "direction": "out" if attempt.outgoing else "in",
        "error": attempt.error,
    }


def _names(families: Iterable[Family]) -> list[str]:
    return sorted(f"IPv{family.value}" for family in families)
