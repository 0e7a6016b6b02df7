"""Answers as agents give them, of as many nodes, peers and routes as a test wants."""

from __future__ import annotations

from typing import Any

Answer = dict[str, Any]


def peer(
    name: str, address: str, router: str = "10.255.0.1", state: str = "established", **more: Any
) -> Answer:
    """A row of `peers` in the status."""
    up = state == "established"
    return {
        "name": name,
        "address": address,
        "asNumber": 65001,
        "localAddress": "10.0.0.2",
        "interface": "",
        "port": 179,
        "listenPort": 179,
        "password": False,
        "gtsm": False,
        "passive": False,
        "type": "eBGP",
        "state": state,
        "reason": "" if up else "connection refused",
        "sinceSeconds": 12.5,
        "flaps": 0,
        "received": 3 if up else 0,
        "accepted": 2 if up else 0,
        "refused": {"asPathLoop": 1} if up else {},
        "overLimit": [],
        "announced": 2 if up else 0,
        "bfd": None,
        "syncing": [],
        "stale": 0,
        "unansweredRefresh": [],
        "outQueue": 0,
        "stuckSeconds": 0.0,
        "negotiated": {"routerID": router, "families": ["IPv4"], "capabilities": []} if up else None,
        "lastReset": None,
        "lastAttempt": None,
        **more,
    }


def status(node: str = "n1", peers: list[Answer] | None = None, **more: Any) -> Answer:
    """`brief`."""
    two = [peer(f"{node}-tor-ipv4", "10.0.0.1"), peer(f"{node}-tor-ipv6", "fd00::1")]
    return {
        "version": "0.1.0",
        "node": node,
        "pid": 7,
        "inSync": True,
        "ready": True,
        "unready": "",
        "reconciled": True,
        "speakerConnected": True,
        "drain": {"stage": "none"},
        "memoryMiB": 40.0,
        "memoryPeakMiB": 44.0,
        "blocks": ["10.244.1.0/24", "fd00:10:244:1::/120"],
        "peers": two if peers is None else peers,
        "services": [
            {
                "service": "default/web",
                "address": "10.96.0.10",
                "kind": "clusterIP",
                "reason": "advertise",
                "lost": [],
            }
        ],
        "pods": {"leases": 2, "adopted": 0, "quarantined": 0, "faults": [], "retained": []},
        "floating": {"held": FLOATING, "came": 1, "left": 0},
        "egress": {"held": EGRESS, "pods": 2, "came": 1, "left": 0},
        "problems": [],
        **more,
    }


def route(prefix: str, verdict: str = "accepted", **more: Any) -> Answer:
    """A row of `routes`."""
    return {
        "prefix": prefix,
        "pathId": "",
        "peer": "10.0.0.1",
        "name": "n1-tor-ipv4",
        "nextHop": "10.0.0.1",
        "asPath": [65001, 65000],
        "localPreference": None,
        "med": None,
        "communities": ["65001:7", "65001:1:2", "rt:65001:9"],
        "stale": False,
        "verdict": verdict,
        **more,
    }


ROUTES = [
    route("0.0.0.0/0", "defaultRoute"),
    route("10.0.0.0/8"),
    route("10.1.0.0/16"),
    route("10.1.2.0/24", "asPathLoop"),
    route("fd00::/16", peer="fd00::1", name="n1-tor-ipv6", nextHop="fd00::1"),
]
KERNEL = [
    {
        "prefix": prefix,
        "kind": "unicast",
        "metric": 2048,
        "nextHops": [f"{hop} dev tor"],
        "inKernel": True,
    }
    for prefix, hop in (("10.0.0.0/8", "10.0.0.1"), ("10.1.0.0/16", "10.0.0.1"), ("fd00::/16", "fd00::1"))
]
EXPORTS = [
    {
        "peer": "10.0.0.1",
        "name": "n1-tor-ipv4",
        "prefix": prefix,
        "kind": kind,
        "service": service,
        "communities": [],
        "verdict": verdict,
    }
    for prefix, kind, service, verdict in (
        ("10.244.1.0/24", "block", "", "announced"),
        ("10.96.0.10/32", "clusterIP", "default/web", "announced"),
        ("10.96.0.20/32", "clusterIP", "default/local", "noLocalEndpoints"),
    )
]
FLOATING = [
    {
        "address": "203.0.113.10",
        "by": "FloatingIP default/web",
        "pod": "default/web-1",
        "podAddress": "10.244.1.2",
        "sinceSeconds": 75.0,
    }
]
EGRESS = [{"address": "2001:db8:e::10", "by": "out", "connections": 3, "sinceSeconds": 7.5}]
SERVICE = {
    "service": "default/web",
    "type": "ClusterIP",
    "ports": ["80/tcp"],
    "local": [],
    "addresses": [{"address": "10.96.0.10", "kind": "clusterIP", "verdict": "advertise"}],
    "endpoints": [{"address": "10.244.1.2", "ports": ["8080/tcp"], "node": "n1", "state": "ready"}],
    "endpointCount": 1,
}
ENTRY = {"at": 1000.5, "kind": "session", "subject": "tor", "what": "established", "peer": "tor"}


def answer(question: str, node: str = "n1") -> Answer:
    """What an agent answers."""
    word, _, _ = question.partition(" ")  # of routes it tells all, whatever is asked for
    match word:
        case "brief":
            return status(node)
        case "status":
            return {**status(node), "routes": KERNEL}
        case "routes":
            return {"routes": ROUTES}
        case "exports":
            return {"routes": EXPORTS}
        case "services":
            return {"total": 1, "node": node, "rows": [SERVICE]}
        case "pods":
            rows = [{"pod": "default/web-1", "addresses": ["10.244.1.2"], "policies": 0}]
            return {"node": node, "pods": rows}
        case "history":
            return {"entries": [ENTRY]}
        case "policy":
            return policy(question.split(" ")[1])
        case "flows":
            ends = {"source": "10.0.1.1", "destination": "default/web-1 (10.244.1.2)", "protocol": "tcp"}
            kind = {**ends, "service": "default/web", "port": 80, "toPort": 8080, "masqueraded": False}
            row = {"serial": 1, "time": 1000.0, "sourcePort": 5, **kind, "policies": ["default/deny"]}
            counts = {"kinds": [{**kind, "connections": 3}], "more": 0, "lost": 0}
            return {"node": node, "flows": [row], **counts, "sinceSeconds": 2.0, "problem": ""}
        case "explain":
            steps = [{"what": "route", "where": "n1", "verdict": "ok", "detail": "there", "since": "2 s"}]
            return {"subject": "address A", "healthy": True, "answer": "yes", "advice": "", "steps": steps}
        case _:
            return {"error": "ask for: brief, status"}


def policy(word: str) -> Answer:
    """What an agent answers of policies."""
    match word:
        case "list":
            return {"policies": [], "refused": ""}
        case "show":
            return {"name": "web", "namespace": "default", "refused": ""}
        case "matrix":
            columns = [{"name": "web-1", "pods": ["default/web-1"]}]
            rows = [{"from": "outside", "pods": 0, "to": [{"IPv4": "yes"}]}]
            return {"namespace": "default", "port": "80/tcp", "columns": columns, "rows": rows, "notes": []}
        case "test":
            ends = {"source": "a", "destination": "b"}
            return {"allowed": True, **ends, "connections": [], "notes": [], "refused": ""}
        case _:
            drop = {
                "serial": 1,
                "time": 1000.0,
                "direction": "ingress",
                "source": {"name": "", "address": "10.0.1.1", "port": 5},
                "destination": {"name": "default/web-1", "address": "10.244.1.2", "port": 80},
                "protocol": "tcp",
                "policies": [],
                "reason": "no rule accepts it",
            }
            return {"drops": [drop], "seen": 1, "logging": 1, "problem": ""}
