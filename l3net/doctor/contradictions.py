"""What agents of a cluster say against one another, out of the statuses of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from l3net.doctor.cluster import MESH
from l3net.doctor.findings import Finding, Severity
from l3net.model import Prefix

Statuses = Mapping[str, Mapping[str, Any]]
#: Of a node and what stands against it.
Found = Iterator[tuple[str, Finding]]


def contradictions(statuses: Statuses) -> Found:
    """Of all nodes that answer; what does not need routes."""
    yield from _blocks_of_two(statuses)
    yield from _addresses_of_two(statuses)
    yield from _releases(statuses)
    yield from _mesh(statuses)
    yield from _services(statuses)


def _blocks_of_two(statuses: Statuses) -> Found:
    """Blocks of two nodes of which one holds the other, or that are the same."""
    blocks = [(ip_network(block), node) for node, each in statuses.items() for block in each["blocks"]]
    open_: list[tuple[Prefix, str]] = []
    for block, node in sorted(blocks, key=lambda each: (each[0].version, *_range(each[0]))):
        while open_ and (open_[-1][0].version != block.version or _last(open_[-1][0]) < _first(block)):
            open_.pop()
        for other, owner in open_:
            if owner != node:
                what = f"{owner} and {node} both have it" if other == block else f"lies in {other} of {owner}"
                for each in (owner, node):
                    yield each, _block_of_two(block, what)
        open_.append((block, node))


def _block_of_two(block: Prefix, what: str) -> Finding:
    return Finding(
        "blocks",
        str(block),
        Severity.PROBLEM,
        f"{what}: routers send its pods' packets to either node",
        "give one of them another block (spec.podCIDRs of the Node, or the IPPool), and create its "
        "pods again",
    )


def _addresses_of_two(statuses: Statuses) -> Found:
    """Addresses from which sessions of two nodes leave."""
    owners: dict[str, dict[str, None]] = {}
    for node, each in statuses.items():
        for peer in each["peers"]:
            text = peer["localAddress"]
            if text and not (ip_address(text).is_link_local or ip_address(text).is_loopback):
                owners.setdefault(text, {})[node] = None
    for address, nodes in owners.items():
        if len(nodes) > 1:
            for node in nodes:
                yield (
                    node,
                    Finding(
                        "address",
                        address,
                        Severity.PROBLEM,
                        f"{len(nodes)} nodes have it as their own: {', '.join(list(nodes)[:5])}",
                        "give each node its own address; `ip address` on them shows where it is",
                    ),
                )


def _releases(statuses: Statuses) -> Found:
    counts = Counter(each["version"] for each in statuses.values())
    if len(counts) < 2:
        return
    told = ", ".join(f"{count} run {version}" for version, count in counts.most_common())
    usual = counts.most_common(1)[0][0]
    for node, each in statuses.items():
        if each["version"] != usual:
            yield (
                node,
                Finding(
                    "agent",
                    "release",
                    Severity.WARNING,
                    f"agents are of different releases: {told}",
                    "while an upgrade rolls, wait; else `kubectl rollout status` of the agents' DaemonSet",
                ),
            )


def _mesh(statuses: Statuses) -> Found:
    """Sessions of the node-to-node mesh that one end alone has."""
    others = {
        node: {
            peer["name"].removeprefix(MESH).partition("/")[0]
            for peer in each["peers"]
            if peer["name"].startswith(MESH)
        }
        for node, each in statuses.items()
    }
    for node, peers in others.items():
        for other in sorted(peers):
            if other != node and other in others and node not in others[other]:
                yield (
                    node,
                    Finding(
                        "mesh",
                        f"{MESH}{other}",
                        Severity.PROBLEM,
                        f"{node} has a session of the mesh with {other}, which has none with it",
                        "compare what both know: `l3net bgp summary --node` of each; one has not heard of "
                        "the other's Node, or refuses it (its problems say why)",
                    ),
                )


def _services(statuses: Statuses) -> Found:
    """Nodes that know other service addresses, or other owners of them, than most do."""
    known = {
        node: frozenset((row["address"], row["service"]) for row in each["services"])
        for node, each in statuses.items()
        if each["reconciled"]
    }
    if len(known) < 3:
        return  # nobody is the odd one
    usual, count = Counter(known.values()).most_common(1)[0]
    if count * 2 <= len(known):
        return  # the cluster changes under our eyes
    for node, mine in known.items():
        if mine == usual:
            continue
        lacks, more = usual - mine, mine - usual
        told = [f"lacks {len(lacks)}"] * bool(lacks) + [f"has {len(more)} more"] * bool(more)
        example = min(lacks | more)
        yield (
            node,
            Finding(
                "services",
                "addresses",
                Severity.WARNING,
                f"of the service addresses that most nodes know, it {' and '.join(told)}, such as "
                f"{example[0]} of {example[1]}",
                "ask again in a few seconds; if that lasts, the node does not hear the API server: see the "
                "ages in `l3net status --node`",
            ),
        )


# --- blocks that nobody hears --------------------------------------------------------------------------


def unheard(statuses: Statuses, witnesses: Statuses) -> Found:
    """Blocks to which no witness (a status with `routes`) has a route, though there are routes to most.

    Where most are not heard, nodes do not learn one another's blocks, as behind routers that tell a default
    route alone, and nothing can be said.
    """
    routes = {node: _learned(each) for node, each in witnesses.items()}
    heard: list[tuple[str, Prefix]] = []
    missing: list[tuple[str, Prefix]] = []
    for node, each in statuses.items():
        for block in map(ip_network, each["blocks"]):
            others = [found for name, found in routes.items() if name != node]
            if others:
                place = heard if any(_covered(block, found) for found in others) else missing
                place.append((node, block))
    if len(heard) < len(missing) or not heard:
        return
    asked = ", ".join(list(witnesses)[:5]) + (f" and {len(witnesses) - 5} more" if len(witnesses) > 5 else "")
    for node, block in missing:
        yield (
            node,
            Finding(
                "blocks",
                str(block),
                Severity.PROBLEM,
                f"no other node that was asked ({asked}) has a route to it: pods there are not reached "
                "from other nodes",
                "check its announcements: `l3net bgp announced --rejected --node` of it, and the "
                "routers' filters",
            ),
        )


def _learned(status: Mapping[str, Any]) -> frozenset[Prefix]:
    """What leads to another machine."""
    return frozenset(
        ip_network(route["prefix"])
        for route in status["routes"]
        if any(not hop.startswith("dev ") for hop in route["nextHops"])
    )


def _covered(block: Prefix, routes: frozenset[Prefix]) -> bool:
    """Whether any but a default route leads there."""
    return any(block.supernet(new_prefix=length) in routes for length in range(block.prefixlen, 0, -1))


def _first(block: Prefix) -> int:
    return int(block.network_address)


def _last(block: Prefix) -> int:
    return int(block.broadcast_address)


def _range(block: Prefix) -> tuple[int, int]:
    return _first(block), -_last(block)


def witnesses_of(statuses: Statuses, most: int) -> Sequence[str]:
    """Nodes to ask for their routes: with a session that is up, spread over all."""
    able = [
        node
        for node, each in sorted(statuses.items())
        if any(peer["state"] == "established" for peer in each["peers"])
    ]
    step = max(1, -(-len(able) // most))
    return able[::step]
