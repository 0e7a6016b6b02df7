"""Which BGP sessions this node holds, out of the declared peers and the node-to-node mesh."""

from __future__ import annotations

from l3net.bgp.session import (
    UNKNOWN_AS,
    Gateways,
    Links,
    OnLink,
    Refusal,
    Session,
    Sessions,
    SourceLookup,
    Unusable,
    family_of,
    node_as_number,
    router_id,
)
from l3net.bgp.session_of_peer import (
    INTERFACE,
    bad_interface,
    far_ends,
    internal_routers,
    next_hops_of,
    one_of_each_family,
    session_of,
)
from l3net.bgp.topology import reflectors, wanted_mesh_peers
from l3net.model import (
    Address,
    BgpPeer,
    ClusterState,
    Node,
)

__all__ = [
    "UNKNOWN_AS", "Gateways", "Links", "OnLink", "Refusal", "Session", "Sessions", "SourceLookup", "Unusable",
    "family_of", "guarded", "node_as_number", "router_id", "sessions", "unnumbered_interfaces",
]  # fmt: skip


def unnumbered_interfaces(state: ClusterState, me: str) -> frozenset[str]:
    """The links on which this node looks for routers."""
    node = state.nodes.get(me)
    return frozenset(
        peer.interface
        for peer in state.peers.values()
        if peer.interface is not None
        and INTERFACE.fullmatch(peer.interface)
        and node is not None
        and applies(peer, node)
    )


def sessions(
    state: ClusterState,
    me: str,
    source: SourceLookup,
    gateways: Gateways = (),
    links: Links | None = None,
    own: frozenset[Address] | None = None,
) -> Sessions:
    """The sessions of node `me`. Explicit peers come before the mesh; one session for one address.

    `own`: the addresses on this node's links, where they are known.
    """
    node = state.nodes.get(me)
    if node is None:
        return Sessions({}, ())
    links = links or {}
    found: dict[Address, Session] = {}
    refusals: list[Refusal] = []
    for peer in sorted(state.peers.values(), key=lambda peer: peer.name):
        if not applies(peer, node):
            continue
        if peer.interface is not None and not INTERFACE.fullmatch(peer.interface):
            refusals.append(bad_interface(peer.name, peer.interface))
            continue
        if peer.interface is not None and not links.get(peer.interface, OnLink()).routers:
            detail = f"no router advertisement heard on {peer.interface}"
            refusals.append(Refusal(peer.name, Unusable.NO_NEIGHBOUR, detail))
        if peer.interface is not None:
            for router in internal_routers(state, peer, node, links.get(peer.interface, OnLink())):
                detail = f"{router} is of our own AS; if that is meant, give asNumber"
                refusals.append(Refusal(peer.name, Unusable.NOT_EXTERNAL, detail))
        for name, address, as_number in far_ends(state, peer, node, gateways, links):
            try:
                result = session_of(state, node, peer, name, address, as_number, source, links, own)
            except Exception as err:  # whatever is wrong with one peer is so of this peer
                result = Refusal(name, Unusable.UNFORESEEN, f"{type(err).__name__}: {err}")
            if isinstance(result, Refusal):
                refusals.append(result)
            elif address in found:
                refusals.append(
                    Refusal(name, Unusable.DUPLICATE_ADDRESS, f"{address} is {found[address].name}")
                )
            else:
                found[address] = result
    chosen = reflectors(state)
    mesh: dict[Address, str] = {}
    # Of two Nodes with one address, the one that is ready is there.
    wanted = sorted(wanted_mesh_peers(state, me), key=lambda name: (not state.nodes[name].ready, name))
    for other_name in wanted:
        other = state.nodes[other_name]
        for address in one_of_each_family(other.addresses):
            if address in node.addresses:
                detail = f"{address} is this node's own; delete the stale Node"
                refusals.append(Refusal(f"mesh:{other_name}", Unusable.OWN_ADDRESS, detail))
                continue
            if address in mesh:
                detail = f"{address} is that of node {mesh[address]} too; delete the stale Node"
                refusals.append(Refusal(f"mesh:{other_name}", Unusable.DUPLICATE_ADDRESS, detail))
                continue
            if address in found:
                continue  # an explicit peer beats the mesh
            session = _mesh(state, node, other, address, source, chosen)
            if isinstance(session, Refusal):
                refusals.append(session)
            else:
                found[address] = session
                mesh[address] = other_name
    return Sessions(found, tuple(refusals))


def guarded(found: Sessions) -> Sessions:
    """Without the sessions that wait: for a speaker that cannot hold who dials in to what they demand."""
    kept = {address: session for address, session in found.by_address.items() if not session.listen}
    detail = "this ExaBGP is not the release that l3net knows, and would let in anybody"
    refusals = [
        Refusal(session.name, Unusable.UNGUARDED, detail)
        for session in found.by_address.values()
        if session.listen
    ]
    return Sessions(kept, (*found.refusals, *refusals))


def applies(peer: BgpPeer, node: Node) -> bool:
    """Whether a node has sessions with a peer."""
    return (not peer.nodes or node.name in peer.nodes) and peer.node_selector.matches(node.labels)


def _mesh(
    state: ClusterState,
    node: Node,
    other: Node,
    address: Address,
    source: SourceLookup,
    chosen: frozenset[str],
) -> Session | Refusal:
    name = f"mesh:{other.name}"
    local = next((mine for mine in node.addresses if mine.version == address.version), None)
    if local is None:
        return Refusal(name, Unusable.NO_LOCAL_ADDRESS, f"this node has no IPv{address.version} address")
    looked_up = source(address)
    configuration = state.configuration
    passive = int(local) > int(address)  # only one side dials: both dialling collide again and again
    families = frozenset({family_of(address)})
    return Session(
        name=name,
        mesh_node=other.name,
        peer_address=address,
        peer_as=node_as_number(state, other),
        local_address=local,
        local_as=node_as_number(state, node),
        router_id=router_id(node),
        families=families,
        next_hops=next_hops_of(node, local, looked_up[1] if looked_up else (), families),
        port=configuration.listen_port,
        listen_port=configuration.listen_port,
        hold_time=configuration.hold_time,
        graceful_restart=configuration.graceful_restart,
        passive=passive,
        listen=passive,
        multihop=None if node_as_number(state, other) == node_as_number(state, node) else 64,
        client=node.name in chosen and other.name not in chosen,
        reflector=other.name in chosen,
        cluster_id=configuration.cluster_id if node.name in chosen else None,
        to_node=True,
        bfd=configuration.bfd,
    )
