"""What a node's kernel and lease store hold, and what of it is wrong: the laws of `l3net lab chaos`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from l3net.lab.chaos.ground import live_pods
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.model import Prefix
from l3net.naming import BRIDGE, LEASE_DB, NFT_TABLE, RTPROT_L3NET, STATE_DIR

_LOOK = f"""
ip -j link show; echo; ip -j address show dev {BRIDGE}; echo; ip -j neigh show dev {BRIDGE}; echo
ip -j -4 route show; echo; ip -j -6 route show; echo
nft -j list table bridge {NFT_TABLE} 2>/dev/null || echo '{{}}'; echo
ip -j rule; echo; ip -j -6 rule
"""

_LEASES = """
import json, sqlite3, sys
store = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=2)
print(json.dumps(store.execute("SELECT hex(address), container, host_ifname FROM lease").fetchall()))
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Lists of a node as iproute2 and nft tell them, and leases: (address, container, host end of the
    pair)."""

    links: list[dict[str, Any]]
    bridge: list[dict[str, Any]]
    neighbours: list[dict[str, Any]]
    routes: list[dict[str, Any]]
    guard: dict[str, Any]
    leases: tuple[tuple[str, str, str], ...]


def look(host: Host) -> Held:
    """Everything as it is now. Raises LabError."""
    pieces = [line for line in host.run(["sh", "-c", _LOOK], check=False).stdout.splitlines() if line.strip()]
    try:
        parts = [json.loads(piece) for piece in pieces]
    except ValueError:
        raise LabError(f"{host.name}: iproute2 answered no JSON") from None
    found = [part if isinstance(part, list) else [] for part in parts if isinstance(part, list)]
    guard = next((part for part in parts if isinstance(part, dict)), {})
    if len(found) < 5:
        found = [*found[:1], [], [], *found[1:]]  # without the bridge there is nothing to tell of it
    return Held(found[0], found[1], found[2], [*found[3], *found[4]], guard, leases(host))


def leases(host: Host) -> tuple[tuple[str, str, str], ...]:
    """The store's, read beside the agent. Raises LabError."""
    # Inside the host: SQLite follows the link /proc/PID/root by itself, and ends in our own root.
    done = host.run([*host.python, "-c", _LEASES, f"{STATE_DIR}/{LEASE_DB}"], check=False)
    try:
        rows = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"{host.name}: the lease store: {done.stderr.strip()[-200:]}") from None
    return tuple((str(ip_address(bytes.fromhex(row[0]))), str(row[1]), str(row[2])) for row in rows)


def wrong(host: Host, held: Held, blocks: Sequence[Prefix], mine: Sequence[str]) -> list[str]:
    """What of the laws does not hold on a node. `mine` are routes of others', which must be there."""
    found = [f"{address} is leased twice" for address, count in _counted(held.leases).items() if count > 1]
    ends = {address: (container, end) for address, container, end in held.leases}
    links = {link["ifname"]: link for link in held.links}
    fixed = {entry["dst"] for entry in held.neighbours if "PERMANENT" in entry.get("state", [])}
    guarded = _guarded(held.guard)
    for pod, (container, addresses) in live_pods(host).items():
        for address in addresses:
            holder, end = ends.get(address, ("", ""))
            if holder != container:
                found.append(f"{pod}: {address} is leased to {holder[:12] or 'nobody'}")
                continue
            link = links.get(end, {})
            if link.get("master") != BRIDGE or "UP" not in link.get("flags", []):
                found.append(f"{pod}: its link {end} is {link.get('operstate', 'gone')}")
            if address not in fixed:
                found.append(f"{pod}: {address} has no neighbour entry")
            if (end, address) not in guarded:
                found.append(f"{pod}: {address} is not guarded on {end}")
    there = {f"{a['local']}/{a['prefixlen']}" for link in held.bridge for a in link.get("addr_info", [])}
    routes = {(route["dst"], str(route.get("protocol"))) for route in held.routes}
    for block in blocks:
        if f"{block[1]}/{block.prefixlen}" not in there:
            found.append(f"{BRIDGE} lacks {block[1]}")
        if (str(block), str(RTPROT_L3NET)) not in routes:
            found.append(f"the route that backs {block} is gone")
    found += [f"a route of others' is gone: {dst}" for dst in mine if dst not in {dst for dst, _ in routes}]
    return found


def twice(leased: Mapping[str, Sequence[tuple[str, str, str]]]) -> list[str]:
    """Addresses that two nodes have leased."""
    counts = Counter(address for each in leased.values() for address in {row[0] for row in each})
    return [f"{address} is leased on two nodes" for address, count in counts.items() if count > 1]


def _counted(rows: Sequence[tuple[str, str, str]]) -> Counter[str]:
    return Counter(row[0] for row in rows)


def _guarded(table: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(port, address) of the guard's sets."""
    found: set[tuple[str, str]] = set()
    for item in table.get("nftables", []):
        if item.get("set", {}).get("name") in ("sources4", "sources6"):
            for element in item["set"].get("elem", []):
                match element:
                    case {"concat": [str(port), str(address)]}:
                        found.add((port, address))
    return found
