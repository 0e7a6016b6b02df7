"""The fabric as it is drawn: of each node its state and sessions, out of its agent's status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Sessions of the node-to-node mesh bear this before the node's name.
MESH: Final = "mesh:"
#: Sessions of the mesh that are told one by one: those that are not up. A mesh of 500 has 250,000.
MOST_MESH: Final = 20
MOST_PROBLEMS: Final = 20
#: What of a session changes with every second and not with what happens.
PASSING: Final = frozenset({"sinceSeconds"})


def node_row(status: Mapping[str, Any]) -> dict[str, Any]:
    """One node: `state` (`ready`, `not ready`, `draining`), sessions with routers, a digest of the mesh."""
    peers = status["peers"]
    routers = [each for each in peers if not each["name"].startswith(MESH)]
    mesh = [each for each in peers if each["name"].startswith(MESH)]
    down = [each for each in mesh if each["state"] != "established"]
    problems = status["problems"]
    drains = "cause" in status["drain"]
    return {
        "node": status["node"],
        "version": status["version"],
        "state": "draining" if drains else "ready" if status["ready"] else "not ready",
        "why": status["drain"].get("cause", "") if drains else status["unready"],
        "blocks": status["blocks"],
        "pods": status["pods"].get("leases", 0),
        "peers": [_session(each) for each in routers],
        "mesh": {
            "sessions": len(mesh),
            "established": len(mesh) - len(down),
            "down": [_session(each) for each in down[:MOST_MESH]],
        },
        "announced": sum(1 for each in status["services"] if each["reason"] == "advertise"),
        "problems": problems[:MOST_PROBLEMS],
        "problemCount": len(problems),
    }


def unreached(node: str, why: str) -> dict[str, Any]:
    """A node that does not answer."""
    return {
        "node": node,
        "version": "",
        "state": "unreachable",
        "why": why,
        "blocks": [],
        "pods": 0,
        "peers": [],
        "mesh": {"sessions": 0, "established": 0, "down": []},
        "announced": 0,
        "problems": [],
        "problemCount": 0,
    }


def _session(peer: Mapping[str, Any]) -> dict[str, Any]:
    agreed = peer.get("negotiated") or {}
    bfd = peer.get("bfd")
    return {
        "name": peer["name"],
        "address": peer["address"],
        "localAddress": peer["localAddress"],
        "asNumber": peer["asNumber"],
        "type": peer["type"],
        "router": agreed.get("routerID", ""),
        "state": peer["state"],
        "reason": peer["reason"],
        "sinceSeconds": peer["sinceSeconds"],
        "flaps": peer["flaps"],
        "received": peer["received"],
        "accepted": peer["accepted"],
        "announced": peer["announced"],
        "refused": peer["refused"],
        "bfd": bfd["state"] if bfd else "",
    }


def lasting(node: Mapping[str, Any]) -> dict[str, Any]:
    """The row without what changes by itself, to compare it with that of before."""
    mesh = {**node["mesh"], "down": [_lasting(each) for each in node["mesh"]["down"]]}
    return {**node, "peers": [_lasting(each) for each in node["peers"]], "mesh": mesh}


def _lasting(session: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in session.items() if key not in PASSING}


def changes(
    before: Mapping[str, Mapping[str, Any]], now: Iterable[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[str], dict[str, Mapping[str, Any]]]:
    """Rows that are others than before, names that are gone, and what to compare with the next time."""
    known: dict[str, Mapping[str, Any]] = {}
    changed: list[Mapping[str, Any]] = []
    for row in now:
        name = row["node"]
        known[name] = lasting(row)
        if before.get(name) != known[name]:
            changed.append(row)
    return changed, sorted(before.keys() - known.keys()), known
