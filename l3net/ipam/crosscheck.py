"""What declared objects say against one another: each is right by itself, and together they cannot be.

One list for whoever tells it: `l3net validate`, the agent's status and doctor, the controller's Events and
conditions. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from l3net.addresses import host_prefix
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.overlaps import refused_pools
from l3net.ipam.spans import Spans
from l3net.model import BgpPeer, ClusterState, IpPool, Kind, Node, ObjectName, Prefix
from l3net.near import did_you_mean

#: Other nodes named in one finding.
MOST_NAMED = 3


def crosscheck_state(state: ClusterState) -> list[Contradiction]:
    """The same, of a whole declared state."""
    return crosscheck(state.nodes, state.pools, state.service_ranges, state.peers.values(), state.filters)


def crosscheck(
    nodes: Mapping[str, Node],
    pools: Mapping[str, IpPool],
    ranges: Collection[Prefix],
    peers: Iterable[BgpPeer],
    filters: Collection[str],
) -> list[Contradiction]:
    """Every contradiction, at both objects that are part of it, in a fixed order. `ranges` are those of
    services."""
    ordered = [nodes[name] for name in sorted(nodes)]
    return [
        *refused_pools(pools, ranges, ordered),
        *_shared_addresses(ordered),
        *_shared_blocks(ordered),
        *_blocks_in_the_way(ordered, ranges),
        *(found for peer in peers for found in missing_filters(peer, filters)),
    ]


def missing_filters(peer: BgpPeer, filters: Collection[str]) -> Iterator[Contradiction]:
    """The peer's filters that are not declared: without them there is no session."""
    for name in peer.filters:
        if name not in filters:
            hint = did_you_mean(name, filters)
            remedy = f"create BGPFilter {name}, or correct `filters` in BGPPeer {peer.name}"
            yield Contradiction(
                Kind.BGP_PEER,
                ObjectName("", peer.name),
                FindingReason.MISSING_FILTER,
                f"no BGPFilter {name} is declared (spec.filters), so that the peer has no session; "
                f"{remedy}{hint}",
            )


def _shared_addresses(nodes: list[Node]) -> Iterator[Contradiction]:
    owners: dict[object, list[str]] = {}
    for node in nodes:
        for address in dict.fromkeys(node.addresses):
            owners.setdefault(address, []).append(node.name)
    for node in nodes:
        for address in dict.fromkeys(node.addresses):
            others = [name for name in owners[address] if name != node.name]
            if others:
                yield _of_node(
                    node,
                    FindingReason.ADDRESS_SHARED,
                    f"its address {address} is that of node {_listed(others)} too; delete the Node that is "
                    "no more",
                )


def _shared_blocks(nodes: list[Node]) -> Iterator[Contradiction]:
    """Blocks that overlap. Sorted by where they begin, those that overlap one follow it, or hold it."""
    every = sorted(
        (
            (block.version, int(block.network_address), int(block.broadcast_address), str(block), node.name)
            for node in nodes
            for block in dict.fromkeys(node.blocks)
        ),
        key=lambda entry: (entry[0], entry[1], -entry[2], entry[4]),
    )
    found: dict[tuple[str, str], dict[str, str]] = {}
    holding: list[tuple[int, int, int, str, str]] = []  # prefixes nest, or are apart
    for entry in every:
        version, first, _, block, name = entry
        while holding and (holding[-1][0] != version or holding[-1][2] < first):
            holding.pop()
        for outer in holding:
            if outer[4] != name:
                found.setdefault((name, block), {})[outer[4]] = outer[3]
                found.setdefault((outer[4], outer[3]), {})[name] = block
        holding.append(entry)
    for (name, block), others in sorted(found.items()):
        listed = _listed([f"{other} ({theirs})" for other, theirs in sorted(others.items())])
        yield Contradiction(
            Kind.NODE,
            ObjectName("", name),
            FindingReason.BLOCKS_OVERLAP,
            f"its block {block} overlaps that of node {listed}; pods of both would have one address",
        )


def _blocks_in_the_way(nodes: list[Node], ranges: Collection[Prefix]) -> Iterator[Contradiction]:
    """Blocks inside a service range, and blocks that hold the address of a node."""
    addresses = Spans()
    for node in nodes:
        for address in node.addresses:
            addresses.add(host_prefix(address), f"{address}, the address of node {node.name}")
    for node in nodes:
        for block in node.blocks:
            for cidr in ranges:
                if cidr.version == block.version and cidr.overlaps(block):
                    yield _of_node(
                        node,
                        FindingReason.BLOCK_OVERLAPS_SERVICE_CIDR,
                        f"its block {block} overlaps the service range {cidr} (serviceCIDRs of the "
                        "BGPConfiguration, or else a ServiceCIDR)",
                    )
            if (held := addresses.overlapping(block)) is not None:
                yield _of_node(node, FindingReason.BLOCK_HOLDS_NODE, f"its block {block} holds {held[1]}")


def _of_node(node: Node, reason: FindingReason, message: str) -> Contradiction:
    return Contradiction(Kind.NODE, ObjectName("", node.name), reason, message)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
