"""What is shown of one peer beyond its row: what both sides agreed on, what waits, how it last ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from l3net.agent.loop import Agent
from l3net.bgp.peer_reasons import Attempt, Reset
from l3net.bgp.peering import Peering
from l3net.model import Family


def neighbor_detail(agent: Agent, peer: Peering, now: float) -> dict[str, Any]:
    """Fields of the peer's row in the status. Times in seconds; families as in BGPPeer.spec.families."""
    address = peer.session.peer_address
    return {
        "syncing": _names(peer.awaiting) if peer.established else [],
        "stale": sum(entry.stale for entry in agent.rib.received(address)),
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
