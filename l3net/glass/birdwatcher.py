"""A node as birdwatcher would tell of a BIRD: what Alice-LG's source of that name reads.

Paths and fields are those of birdwatcher 2 (its docs/schema.md); times are UTC. A protocol is a session, by
its name where that is one of a kind and may be written so, else by its address.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.glass.backend import NoSuchError, Query
from l3net.glass.held import FRESH_TABLES, Held
from l3net.glass.resources import asked
from l3net.glass.tables import USED, matches, prefix_of

VERSION: Final = "2.2.5"
#: Seconds for which Alice-LG may keep an answer.
TTL: Final = 30.0
TABLES: Final = ("master4", "master6")
#: What birdwatcher takes for a name.
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:.")
#: BIRD's preference of what it learned by BGP (its `metric`).
_PREFERENCE: Final = 100


class _Node:
    """Status, routes and exports of one time, put into birdwatcher's words."""

    def __init__(self, status: dict[str, Any], routes: list[Any], exports: list[Any], now: float) -> None:
        self.status, self.now = status, now
        self._routes, self._exports = _by_peer(routes), _by_peer(exports)
        self.names = _names(status["peers"])
        self._hops = {row["prefix"]: " ".join(row["nextHops"]).split() for row in status["routes"]}

    def protocols(self, *, short: bool = False) -> dict[str, Any]:
        tell = self._short if short else self._protocol
        return {self.names[_key(peer)]: tell(peer) for peer in self.status["peers"]}

    def _short(self, peer: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "proto": "BGP",
            "table": "---",
            "state": _state(peer),
            "since": self._since(peer),
            "info": _info(peer),
        }

    def _protocol(self, peer: Mapping[str, Any]) -> dict[str, Any]:
        refused = sum(peer["refused"].values())
        mine = [row for row in self.routes_of(peer) if row["verdict"] in USED]
        counts = {
            "imported": peer["accepted"],
            "filtered": refused,
            "exported": peer["announced"],
            "preferred": sum(1 for row in mine if self._primary(row)),
        }
        agreed = peer.get("negotiated") or {}
        return {
            "protocol": self.names[_key(peer)],
            "bird_protocol": "BGP",
            "table": "---",
            "state": _state(peer),
            "state_changed": self._since(peer),
            "connection": _info(peer),
            "bgp_state": _info(peer),
            "description": peer["name"],
            "neighbor_address": peer["address"],
            "neighbor_as": peer["asNumber"] or 0,
            "neighbor_id": agreed.get("routerID", ""),
            "source_address": peer["localAddress"],
            "last_error": _last_error(peer),
            "routes": counts,
            "channels": {
                f"ipv{version}": {"table": f"master{version}", "routes_count": self._count(peer, version)}
                for version in (4, 6)
            },
        }

    def _count(self, peer: Mapping[str, Any], version: int) -> dict[str, int]:
        rows = [row for row in self.routes_of(peer) if _version(row) == version]
        used = [row for row in rows if row["verdict"] in USED]
        said = [row for row in self.exports_of(peer) if _version(row) == version and row["verdict"] in USED]
        return {
            "imported": len(used),
            "filtered": len(rows) - len(used),
            "exported": len(said),
            "preferred": sum(1 for row in used if self._primary(row)),
        }

    def _since(self, peer: Mapping[str, Any]) -> str:
        return _moment(self.now - peer["sinceSeconds"])

    def peer(self, name: str) -> Mapping[str, Any]:
        """By protocol name or address. Raises NoSuchError."""
        for peer in self.status["peers"]:
            if name in (self.names[_key(peer)], peer["address"]):
                return peer  # type: ignore[no-any-return]
        raise NoSuchError(f"there is no protocol {name[:60]}")

    def routes_of(self, peer: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
        if peer is not None:
            return self._routes.get(peer["address"], ())
        return (row for rows in self._routes.values() for row in rows)

    def exports_of(self, peer: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        return self._exports.get(peer["address"], ())

    def _primary(self, row: Mapping[str, Any]) -> bool:
        return row["nextHop"] in self._hops.get(row["prefix"], ())

    def route(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One that was learned."""
        hops = self._hops.get(row["prefix"], [])
        via = hops.index(row["nextHop"]) if row["nextHop"] in hops else -1
        kinds = _communities(row["communities"])
        used = row["verdict"] in USED
        told = {
            "network": row["prefix"],
            "gateway": row["nextHop"],
            "interface": hops[via + 2] if 0 <= via < len(hops) - 2 else "",
            "from_protocol": self.names.get((row["peer"], row["name"]), row["peer"]),
            "learnt_from": row["peer"],
            "metric": _PREFERENCE,
            "primary": used and self._primary(row),
            "age": _moment(self.now),
            "type": ["BGP", "univ"],
            "bgp": {
                "origin": "IGP",
                "as_path": list(map(str, row["asPath"])),
                "next_hop": row["nextHop"],
                "local_pref": str(100 if row["localPreference"] is None else row["localPreference"]),
                "med": "" if row["med"] is None else str(row["med"]),
                **kinds,
            },
        }
        return told if used else {**told, "filtered_reason": row["verdict"]}

    def export(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A prefix of this node, as a peer hears it or not."""
        return {
            "network": row["prefix"],
            "gateway": "",
            "interface": "",
            "from_protocol": self.names.get((row["peer"], row["name"]), row["peer"]),
            "learnt_from": "",
            "metric": _PREFERENCE,
            "primary": True,
            "age": _moment(self.now),
            "type": ["static", "univ"],
            "bgp": {
                "origin": "IGP",
                "as_path": [],
                "next_hop": "",
                "local_pref": "100",
                "med": "",
                **_communities(row["communities"]),
            },
            "noexport_reason": "" if row["verdict"] in USED else row["verdict"],
        }


def _by_peer(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["peer"]].append(row)
    return found


def _names(peers: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    peers = list(peers)
    times = Counter(peer["name"] for peer in peers)
    return {
        _key(peer): peer["name"]
        if times[peer["name"]] == 1 and set(peer["name"]) <= _LETTERS
        else peer["address"] or "".join(each if each in _LETTERS else "_" for each in peer["name"])
        for peer in peers
    }


def _key(peer: Mapping[str, Any]) -> tuple[str, str]:
    return peer["address"], peer["name"]


def _state(peer: Mapping[str, Any]) -> str:
    return {"established": "up", "down": "start"}.get(peer["state"], "down")


def _info(peer: Mapping[str, Any]) -> str:
    return "Established" if peer["state"] == "established" else str(peer["reason"] or "Idle")


def _last_error(peer: Mapping[str, Any]) -> str:
    reset, attempt = peer.get("lastReset"), peer.get("lastAttempt")
    if peer["state"] != "established" and attempt:
        return str(attempt["error"])
    return str(reset["reason"]) if reset else ""


def _version(row: Mapping[str, Any]) -> int:
    return 6 if ":" in row["prefix"] else 4


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _communities(texts: Iterable[str]) -> dict[str, Any]:
    plain: list[list[int]] = []
    large: list[list[int]] = []
    extended: list[list[str]] = []
    for text in texts:
        parts = text.split(":")
        if all(part.isdecimal() for part in parts) and len(parts) in (2, 3):
            (plain if len(parts) == 2 else large).append(list(map(int, parts)))
        else:
            extended.append([*parts, "", ""][:3])
    return {"communities": plain, "large_communities": large, "ext_communities": extended}


# --- answers -----------------------------------------------------------------------------------------------


async def answer(held: Held, path: str, query: Query) -> dict[str, Any]:
    """`path` without the slash before it. Raises NoSuchError, ConfigError, and what `held` raises."""
    status = await asked(held, "status", FRESH_TABLES)
    routes = await asked(held, "routes", FRESH_TABLES)
    exports = await asked(held, "exports", FRESH_TABLES)
    now = time.time()

    def found() -> dict[str, Any]:
        return _found(_Node(status, routes["routes"], exports["routes"], now), path, query)

    told = await asyncio.to_thread(found)
    cached = {"date": _stamp(now), "timezone_type": "UTC", "timezone": "UTC"}
    api = {"Version": VERSION, "result_from_cache": False, "cache_status": {"cached_at": cached}}
    return {"api": api, "ttl": _stamp(now + TTL), "cached_at": _stamp(now), **told}


def _found(node: _Node, path: str, query: Query) -> dict[str, Any]:
    match path.split("/"):
        case ["status"]:
            return {"status": _status(node)}
        case ["protocols"] | ["protocols", "bgp"]:
            return {"protocols": node.protocols()}
        case ["protocols", "short"]:
            return {"protocols": node.protocols(short=True)}
        case ["symbols"]:
            return {"symbols": {"routing table": list(TABLES), "protocol": sorted(node.names.values())}}
        case ["symbols", "tables"]:
            return {"symbols": list(TABLES)}
        case ["symbols", "protocols"]:
            return {"symbols": sorted(node.names.values())}
        case ["routes", "protocol" | "peer", name]:
            return _told(node, node.peer(name), used=True)
        case ["routes", "filtered", name]:
            return _told(node, node.peer(name), used=False)
        case ["routes", "export", name]:
            return _exported(node, name, lambda verdict: verdict in USED)
        case ["routes", "noexport", name]:
            return _exported(node, name, lambda verdict: verdict not in USED)
        case ["routes", "table", table]:
            return _told(node, None, used=True, table=table)
        case ["routes", "table", table, "filtered"]:
            return _told(node, None, used=False, table=table)
        case ["routes", "table", table, "peer", name]:
            return _told(node, node.peer(name), used=True, table=table)
        case ["routes", "count", "protocol" | "primary" as what, name]:
            rows = _told(node, node.peer(name), used=True)["routes"]
            return {"routes": sum(1 for row in rows if what == "protocol" or row["primary"])}
        case ["routes", "count", "table", table]:
            return {"routes": len(_told(node, None, used=True, table=table)["routes"])}
        case ["routes", "prefix"]:
            return _looked_up(node, query.get("prefix", ""), best=False)
        case ["route", "net", net] | ["route", "net", net, "table", _]:
            return _looked_up(node, net, best=True)
        case ["route", "net", net, "mask", mask] | ["route", "net", net, "mask", mask, "table", _]:
            return _looked_up(node, f"{net}/{mask}", best=True)
        case _:
            raise NoSuchError(f"birdwatcher's {path[:60]} is not among what l3net tells")


def _status(node: _Node) -> dict[str, Any]:
    status = node.status
    return {
        "version": f"l3net {status['version']}",
        "router_id": next((peer["localAddress"] for peer in status["peers"] if peer["localAddress"]), ""),
        "hostname": status["node"],
        "current_server": _moment(node.now),
        "last_reboot": "",
        "last_reconfig": "",
        "message": "Daemon is up and running" if status["ready"] else f"Not ready: {status['unready']}",
    }


def _told(node: _Node, peer: Mapping[str, Any] | None, *, used: bool, table: str = "") -> dict[str, Any]:
    wanted = {"master4": (4,), "master6": (6,)}.get(table, (4, 6))
    rows = [
        row for row in node.routes_of(peer) if (row["verdict"] in USED) is used and _version(row) in wanted
    ]
    return {"routes": list(map(node.route, rows))}


def _exported(node: _Node, name: str, wanted: Callable[[str], bool]) -> dict[str, Any]:
    rows = [row for row in node.exports_of(node.peer(name)) if wanted(row["verdict"])]
    return {"routes": list(map(node.export, rows))}


def _looked_up(node: _Node, text: str, *, best: bool) -> dict[str, Any]:
    """`best`: only those of the longest prefix, as BIRD's `show route for`."""
    if not text:
        raise ConfigError("prefix: an address or a prefix")
    rows = [row for row in matches(list(node.routes_of(None)), prefix_of(text)) if row["verdict"] in USED]
    if best and rows:
        rows = [row for row in rows if row["prefix"] == rows[0]["prefix"]]
    return {"routes": list(map(node.route, rows))}
