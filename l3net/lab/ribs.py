"""Asking routers, each in its own language: which paths they use, which sessions they have."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from l3net.lab.bird import session_name
from l3net.lab.errors import LabError
from l3net.lab.expected import Rib, is_cluster_prefix
from l3net.lab.machine import CheckedLab, Machine
from l3net.lab.rib_follower import gobgp_best_paths, openbgpd_best_paths
from l3net.lab.topology import RouterKind, Topology
from l3net.model import Address, Prefix
from l3net.naming import RTPROT_L3NET

#: BIRD's `since`, and by how many seconds that of one session may differ.
_MOMENT = re.compile(r"(\d\d):(\d\d):(\d\d\.\d+)")
_JITTER = 0.02


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session at a router. `since` changes whenever the session is established anew, and only then."""

    established: bool
    since: str


def same(one: SessionSeen, other: SessionSeen) -> bool:
    """Whether a session is the same one. BIRD reckons its time anew with each question: it may be off by a
    millisecond."""
    if one.established is not other.established:
        return False
    moments = [_MOMENT.fullmatch(seen.since) for seen in (one, other)]
    if not all(moments):
        return one.since == other.since
    first, second = (
        sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True))
        for found in moments
        if found
    )
    return abs(first - second) < _JITTER


def read_rib(topology: Topology, host: Machine) -> Rib:
    """The blocks and service addresses in a router's RIB, with the neighbours its best paths come from."""
    return {
        prefix: hops
        for prefix, hops in read_paths(topology, host).items()
        if is_cluster_prefix(topology, prefix)
    }


def read_paths(topology: Topology, host: Machine) -> Rib:
    """All of a router's RIB, with the neighbours its best paths come from."""
    router = topology.router(host.name)
    assert router is not None  # noqa: S101
    readers = {
        RouterKind.FRR: _frr_rib,
        RouterKind.BIRD: _bird_rib,
        RouterKind.GOBGP: _gobgp_rib,
        RouterKind.OPENBGPD: _openbgpd_rib,
        RouterKind.L3NET: _kernel_rib,
    }
    found: dict[Prefix, set[Address]] = defaultdict(set)
    for prefix, neighbour in readers[router.kind](topology, host):
        found[prefix].add(neighbour)
    return {prefix: frozenset(hops) for prefix, hops in found.items()}


def read_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    """A router's sessions by the neighbour's address."""
    router = topology.router(host.name)
    assert router is not None  # noqa: S101
    readers = {
        RouterKind.FRR: _frr_sessions,
        RouterKind.BIRD: _bird_sessions,
        RouterKind.GOBGP: _gobgp_sessions,
        RouterKind.OPENBGPD: _openbgpd_sessions,
        RouterKind.L3NET: _l3net_sessions,
    }
    return readers[router.kind](topology, host)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The route by which a router's kernel forwards a prefix. `kind`: unicast, blackhole, unreachable ...;
    `by`: the neighbours of its sessions that it leads to; `text`: as `ip route` shows it."""

    prefix: Prefix
    kind: str
    by: frozenset[Address]
    text: str


def read_forwarding(lab: CheckedLab, router: str, prefix: Prefix) -> Forwarded | None:
    """The longest match in the router's kernel, of equal ones that with the lowest metric; None: no route
    at all. Raises LabError."""
    host = lab.host(router)
    version = prefix.version
    words = ["ip", f"-{version}", "-j", "route", "show", "match", str(prefix)]
    found = []
    for row in _json(host, words) or ():
        text = str(row["dst"])
        dst = ip_network(text if text != "default" else "0.0.0.0/0" if version == 4 else "::/0")
        found.append((dst, row))
    if not found:
        return None
    dst, row = max(found, key=lambda each: (each[0].prefixlen, -int(each[1].get("metric") or 0)))
    hops = row.get("nexthops") or [row]
    known = {
        (lab.interface(router, interface), family): remote
        for (interface, family), remote in _neighbours(lab.topology, host).items()
    }
    by = {known.get((hop.get("dev"), version)) for hop in hops if _gateway(hop)}
    told = ", ".join(f"via {_gateway(hop)} dev {hop['dev']}" for hop in hops if _gateway(hop))
    kind = str(row.get("type", "unicast"))
    of = f", proto {row['protocol']}" if row.get("protocol") else ""
    link = told or f"dev {row.get('dev')}"
    text = f"{kind} {dst}" if kind != "unicast" else f"{dst} {link}"
    return Forwarded(dst, kind, frozenset(each for each in by if each is not None), text + of)


def _gateway(hop: Mapping[str, Any]) -> str:
    return str(hop.get("gateway") or (hop.get("via") or {}).get("host") or "")


def _json(host: Machine, argv: list[str]) -> Any:
    text = host.run(argv).stdout
    try:
        return json.loads(text)
    except ValueError:
        raise LabError(f"{host.name}: `{' '.join(argv)}` answered no JSON: {text[:200]!r}") from None


def _neighbours(topology: Topology, host: Machine) -> dict[tuple[str, int], Address]:
    """The neighbour behind each interface, by family: next hops may be link-local addresses."""
    return {(s.interface, s.remote.version): s.remote for s in topology.sessions(host.name)}


def _frr_rib(topology: Topology, host: Machine) -> Iterable[tuple[Prefix, Address]]:
    for version in topology.versions:
        answer = _json(host, ["vtysh", "-c", f"show bgp ipv{version} unicast json"])
        for prefix, paths in answer.get("routes", {}).items():
            for path in paths:
                if (
                    path.get("valid")
                    and (path.get("bestpath") or path.get("multipath"))
                    and path.get("peerId")
                ):
                    neighbour = path["peerId"]
                    if neighbour not in {"(unspec)", "self"}:
                        yield ip_network(prefix), ip_address(neighbour)


def _frr_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    answer = _json(host, ["vtysh", "-c", "show bgp neighbors json"])
    return {
        session.remote: SessionSeen(
            seen.get("bgpState") == "Established",
            f"{seen.get('connectionsEstablished')}. connection, {seen.get('connectionsDropped')} dropped",
        )
        for session in topology.sessions(host.name)
        if (seen := answer.get(str(session.remote)))
    }


_BIRD_ROUTE = re.compile(r"^(?P<prefix>[0-9a-f.:]+/\d+)\s")
_BIRD_HOP = re.compile(r"^\s+via (?P<hop>\S+) on (?P<interface>\S+)")


def _bird_rib(topology: Topology, host: Machine) -> Iterable[tuple[Prefix, Address]]:
    """What goes to the kernel, where paths are merged: birdc marks only one path as the best."""
    neighbours = _neighbours(topology, host)
    for version in topology.versions:
        prefix: Prefix | None = None
        for line in host.run(["birdc", "show", "route", "export", f"kernel{version}"]).stdout.splitlines():
            if start := _BIRD_ROUTE.match(line):
                prefix = ip_network(start["prefix"])
            hop = _BIRD_HOP.match(line)
            if hop and prefix is not None and (hop["interface"], version) in neighbours:
                yield prefix, neighbours[hop["interface"], version]


def _bird_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    seen: dict[str, SessionSeen] = {}
    for line in host.run(["birdc", "show", "protocols"]).stdout.splitlines():
        words = line.split()
        if len(words) >= 5 and words[1] == "BGP":
            seen[words[0]] = SessionSeen("Established" in words[5:], words[4])
    return {s.remote: seen[session_name(s)] for s in topology.sessions(host.name) if session_name(s) in seen}


def _gobgp_rib(topology: Topology, host: Machine) -> Iterable[tuple[Prefix, Address]]:
    for version in topology.versions:
        text = host.run(["gobgp", "global", "rib", "-a", f"ipv{version}", "-j"]).stdout
        rib = json.loads(text) if text.lstrip().startswith("{") else {}  # an empty table is told in words
        for prefix, paths in rib.items():
            for path in gobgp_best_paths(paths):
                if path.get("source-id") or path.get("neighbor-ip"):
                    neighbour = path.get("neighbor-ip", "")
                    if neighbour not in {"", "<nil>", "invalid IP"}:
                        yield ip_network(prefix), ip_address(neighbour)


def _gobgp_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    seen: dict[Address, SessionSeen] = {}
    for peer in _json(host, ["gobgp", "neighbor", "-j"]):
        uptime = (peer.get("timers", {}).get("state", {}).get("uptime") or {}).get("seconds", 0)
        state = peer.get("state", {})
        seen[ip_address(state["neighbor_address"])] = SessionSeen(
            state.get("session_state") == 6, str(uptime)
        )
    return seen


def _openbgpd_rib(topology: Topology, host: Machine) -> Iterable[tuple[Prefix, Address]]:
    """Equal paths together, as the follower has them: OpenBGPD itself selects one. Before its RIB is there
    its answer has none."""
    rib = _json(host, ["bgpctl", "-j", "show", "rib"]).get("rib", [])
    for prefix, paths in openbgpd_best_paths(rib).items():
        for path in paths:
            yield ip_network(prefix), ip_address(path["neighbor"]["remote_addr"])


def _openbgpd_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    return {
        ip_address(peer["remote_addr"]): SessionSeen(
            peer["state"] == "Established", f"{peer['stats']['message']['received']['open']}. OPEN received"
        )
        for peer in _json(host, ["bgpctl", "-j", "show", "neighbor"])["neighbors"]
    }


def _kernel_rib(topology: Topology, host: Machine) -> Iterable[tuple[Prefix, Address]]:
    """A router of kind l3net: the routes its agent learned and put in the kernel."""
    neighbours = _neighbours(topology, host)
    for version in topology.versions:
        for route in _json(host, ["ip", f"-{version}", "-j", "route", "show", "proto", str(RTPROT_L3NET)]):
            for hop in route.get("nexthops", [route]):
                if (hop.get("dev"), version) in neighbours:
                    yield ip_network(route["dst"]), neighbours[hop["dev"], version]


def _l3net_sessions(topology: Topology, host: Machine) -> dict[Address, SessionSeen]:
    return {
        ip_address(peer["address"]): SessionSeen(peer["state"] == "established", f"{peer['flaps']} flaps")
        for peer in host.status()["peers"]
    }
