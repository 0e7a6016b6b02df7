"""Which BGP sessions this node holds, out of the declared peers and the node-to-node mesh."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from l3net.bgp.topology import reflectors, wanted_mesh_peers
from l3net.model import (
    DEFAULT_MAX_PREFIXES,
    Address,
    BfdSettings,
    BgpPeer,
    ClusterState,
    Family,
    NextHopMode,
    Node,
    ObjectName,
    Secret,
    SecretKey,
)


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session, complete: everything ExaBGP and the policy need to know. Times are in seconds."""

    name: str  # BGPPeer's name, or mesh:NODE
    peer_address: Address
    peer_as: int
    local_address: Address
    local_as: int
    router_id: IPv4Address
    families: frozenset[Family]
    next_hops: Mapping[Family, Address] = field(hash=False, default_factory=dict)
    port: int = 179
    listen_port: int = 179
    hold_time: int = 90
    send_hold_time: int | None = None  # RFC 9687; None: the speaker's default, 0: none
    graceful_restart: int = 120
    passive: bool = False
    listen: bool = False
    gtsm: bool = False
    multihop: int | None = None
    password: bytes | None = field(default=None, repr=False)
    source_interface: str | None = None
    next_hop_mode: NextHopMode = NextHopMode.SELF
    filters: tuple[str, ...] = ()
    max_prefixes: int = DEFAULT_MAX_PREFIXES
    third_party_next_hops: bool = False
    allow_blackhole: bool = False
    add_path: bool = False
    extended_next_hop: bool = False  # RFC 8950
    any_as: bool = False  # `peer_as` is what the peer has said, or UNKNOWN_AS
    client: bool = False  # we reflect for this peer (RFC 4456)
    reflector: bool = False  # this peer may speak for other nodes
    cluster_id: IPv4Address | None = None  # ours, on a node that reflects
    to_node: bool = False  # the peer is a node of the cluster, which may be behind routers
    bfd: BfdSettings | None = None
    bfd_secret: bytes | None = field(default=None, repr=False)

    @property
    def external(self) -> bool:
        """Whether the session is eBGP."""
        return self.peer_as != self.local_as

    @property
    def connected(self) -> bool:
        """Whether the peer is a neighbour on a link, with no router between (RFC 4271 section 5.1.3, 2)."""
        return self.external and not self.to_node and (self.multihop or 1) == 1

    @property
    def mesh(self) -> bool:
        return self.name.startswith("mesh:")


class Unusable(enum.Enum):
    """Why a declared peer has no session. The value is what the operator sees."""

    NO_LOCAL_ADDRESS = "noLocalAddress"
    NO_NEIGHBOUR = "noNeighbour"
    NOT_EXTERNAL = "notExternal"
    MISSING_SECRET = "missingSecret"  # noqa: S105 - a reason, not a password
    DUPLICATE_ADDRESS = "duplicateAddress"
    OWN_ADDRESS = "ownAddress"
    NO_AS_NUMBER = "noASNumber"
    MISSING_FILTER = "missingFilter"
    LONG_BFD_SECRET = "longBFDSecret"  # noqa: S105
    LONG_PASSWORD = "longPassword"  # noqa: S105
    BAD_INTERFACE = "badInterface"
    UNGUARDED = "unguarded"
    UNFORESEEN = "unforeseen"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A declared peer that cannot have a session, and why."""

    name: str
    reason: Unusable
    detail: str = ""

    def __str__(self) -> str:
        return f"peer {self.name}: {self.reason.value}{': ' + self.detail if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions by peer address, and the peers that have none."""

    by_address: Mapping[Address, Session]
    refusals: tuple[Refusal, ...]


#: The source address the kernel would use towards an address, and all addresses of that interface.
SourceLookup = Callable[[Address], tuple[Address, tuple[Address, ...]] | None]


@dataclass(frozen=True, slots=True)
class OnLink:
    """Link-local addresses on one of this node's links: its own, and those of the routers heard there.

    `as_numbers`: of the routers whose OPEN has been seen.
    """

    local: IPv6Address | None = None
    routers: tuple[IPv6Address, ...] = ()
    as_numbers: Mapping[Address, int] = field(hash=False, default_factory=dict)


#: Stands for the AS number of a router that has not said it yet; no router has it (RFC 7300). ExaBGP 5.0.15
#: breaks its events when it is to take any AS, so that the first OPEN is refused, read, and the next taken.
UNKNOWN_AS = 4_294_967_295


#: Octets of a TCP MD5 key that the kernel takes (TCP_MD5SIG_MAXKEYLEN of linux/tcp.h).
LONGEST_PASSWORD = 80
#: What the name of an interface may hold to be named in ExaBGP's configuration.
_INTERFACE = re.compile(r"[A-Za-z0-9_./:@%+-]+")

#: By interface.
Links = Mapping[str, OnLink]
#: The gateways of this node's default routes, for peers with `autodiscover: DefaultGateway`.
Gateways = tuple[Address, ...]


def family_of(address: Address) -> Family:
    return Family.IPV4 if address.version == 4 else Family.IPV6


def router_id(node: Node) -> IPv4Address:
    """The node's first IPv4 address; on an IPv6-only node 32 bits derived from its name (RFC 6286)."""
    for address in node.addresses:
        if isinstance(address, IPv4Address):
            return address
    digest = hashlib.sha256(node.name.encode()).digest()
    return IPv4Address(int.from_bytes(digest[:4], "big") | 1)


def node_as_number(state: ClusterState, node: Node) -> int:
    return node.as_number if node.as_number is not None else state.configuration.as_number


def unnumbered_interfaces(state: ClusterState, me: str) -> frozenset[str]:
    """The links on which this node looks for routers."""
    node = state.nodes.get(me)
    return frozenset(
        peer.interface
        for peer in state.peers.values()
        if peer.interface is not None
        and _INTERFACE.fullmatch(peer.interface)
        and node is not None
        and _applies(peer, node)
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
        if not _applies(peer, node):
            continue
        if peer.interface is not None and not _INTERFACE.fullmatch(peer.interface):
            refusals.append(_bad_interface(peer.name, peer.interface))
            continue
        if peer.interface is not None and not links.get(peer.interface, OnLink()).routers:
            detail = f"no router advertisement heard on {peer.interface}"
            refusals.append(Refusal(peer.name, Unusable.NO_NEIGHBOUR, detail))
        if peer.interface is not None:
            for router in _internal(state, peer, node, links.get(peer.interface, OnLink())):
                detail = f"{router} is of our own AS; if that is meant, give asNumber"
                refusals.append(Refusal(peer.name, Unusable.NOT_EXTERNAL, detail))
        for name, address, as_number in _far_ends(state, peer, node, gateways, links):
            try:
                result = _explicit(state, node, peer, name, address, as_number, source, links, own)
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
        for address in _one_of_each_family(other.addresses):
            if address in node.addresses:
                detail = f"{address} is our own; delete the Node that is no more"
                refusals.append(Refusal(f"mesh:{other_name}", Unusable.OWN_ADDRESS, detail))
                continue
            if address in mesh:
                detail = f"{address} is that of node {mesh[address]} too; delete the Node that is no more"
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


def _bad_interface(name: str, interface: str) -> Refusal:
    return Refusal(name, Unusable.BAD_INTERFACE, f"ExaBGP cannot be told of an interface {interface!r}")


def _applies(peer: BgpPeer, node: Node) -> bool:
    return (not peer.nodes or node.name in peer.nodes) and peer.node_selector.matches(node.labels)


def _local_as(state: ClusterState, peer: BgpPeer, node: Node) -> int:
    return peer.local_as if peer.local_as is not None else node_as_number(state, node)


def _internal(state: ClusterState, peer: BgpPeer, node: Node, link: OnLink) -> tuple[IPv6Address, ...]:
    """Routers that are of our own AS where any other is wanted. They are asked on: it may change."""
    if peer.as_number is not None:
        return ()
    ours = _local_as(state, peer, node)
    return tuple(router for router in link.routers if link.as_numbers.get(router) == ours)


def _one_of_each_family(addresses: tuple[Address, ...]) -> list[Address]:
    first: dict[Family, Address] = {}
    for address in addresses:
        first.setdefault(family_of(address), address)
    return list(first.values())


def _far_ends(
    state: ClusterState, peer: BgpPeer, node: Node, gateways: Gateways, links: Links
) -> list[tuple[str, Address, int | None]]:
    if peer.address is not None:
        return [(peer.name, peer.address, peer.as_number)]
    if peer.interface is not None:
        link = links.get(peer.interface, OnLink())
        internal = set(_internal(state, peer, node, link))
        return [
            (
                peer.name if len(link.routers) == 1 else f"{peer.name}/{router}",
                router,
                UNKNOWN_AS
                if router in internal
                else peer.as_number or link.as_numbers.get(router, UNKNOWN_AS),
            )
            for router in link.routers
        ]
    if peer.default_gateway:
        return [(f"{peer.name}/{gateway}", gateway, peer.as_number) for gateway in gateways]
    ends: list[tuple[str, Address, int | None]] = []
    for other in sorted(state.nodes.values(), key=lambda other: other.name):
        if (
            other.name != node.name
            and peer.peer_selector is not None
            and peer.peer_selector.matches(other.labels)
        ):
            as_number = peer.as_number if peer.as_number is not None else node_as_number(state, other)
            ends += [
                (f"{peer.name}/{other.name}", address, as_number)
                for address in _one_of_each_family(other.addresses)
                if any(mine.version == address.version for mine in node.addresses)
            ]
    return ends


def _explicit(
    state: ClusterState,
    node: Node,
    peer: BgpPeer,
    name: str,
    address: Address,
    as_number: int | None,
    source: SourceLookup,
    links: Links,
    own: frozenset[Address] | None,
) -> Session | Refusal:
    configuration = state.configuration
    if as_number is None:
        return Refusal(name, Unusable.NO_AS_NUMBER)
    if address in node.addresses:
        return Refusal(name, Unusable.OWN_ADDRESS, str(address))
    for wanted in peer.filters:
        if wanted not in state.filters:
            # Without its filter a peer would import and export too much: no session is the safe state.
            return Refusal(name, Unusable.MISSING_FILTER, wanted)
    password: bytes | None = None
    if peer.password is not None:
        password = _secret(state.secrets, peer.password)
        if password is None:  # never fall back to no password
            return Refusal(name, Unusable.MISSING_SECRET, f"{peer.password.secret}[{peer.password.key}]")
        if len(password) > LONGEST_PASSWORD:
            detail = f"{peer.password.secret}[{peer.password.key}] has {len(password)} bytes, "
            detail += f"a TCP MD5 key at most {LONGEST_PASSWORD}"
            return Refusal(name, Unusable.LONG_PASSWORD, detail)
    bfd_secret: bytes | None = None
    if peer.bfd is not None and peer.bfd.auth is not None:
        wanted_key = peer.bfd.auth.password
        bfd_secret = _secret(state.secrets, wanted_key)
        if bfd_secret is None:  # nor BFD without its authentication
            return Refusal(name, Unusable.MISSING_SECRET, f"{wanted_key.secret}[{wanted_key.key}]")
        if len(bfd_secret) > peer.bfd.auth.type.longest_secret:
            limit = f"at most {peer.bfd.auth.type.longest_secret} bytes"
            return Refusal(name, Unusable.LONG_BFD_SECRET, f"{wanted_key.secret}[{wanted_key.key}], {limit}")
    interface = peer.interface or peer.source_interface
    if interface is not None and not _INTERFACE.fullmatch(interface):
        # Left out of the configuration it would be a session over any link.
        return _bad_interface(name, interface)
    if peer.local_address is not None and own is not None and peer.local_address not in own:
        detail = f"localAddress {peer.local_address} is on no link of this node"
        return Refusal(name, Unusable.NO_LOCAL_ADDRESS, detail)
    looked_up = source(address)
    if address.is_link_local and interface is not None:  # no route tells which link it is on
        on_link = links.get(interface, OnLink()).local
        looked_up = (on_link, ()) if on_link is not None else None
    local = peer.local_address or (looked_up[0] if looked_up else None)
    if local is None or local.version != address.version:
        where = f"no link-local address on {interface}" if address.is_link_local else f"no route to {address}"
        return Refusal(name, Unusable.NO_LOCAL_ADDRESS, where)
    siblings = looked_up[1] if looked_up else ()
    families = peer.families or frozenset({family_of(address)})
    selected = peer.peer_selector is not None
    return Session(
        name=name,
        peer_address=address,
        peer_as=as_number,
        local_address=local,
        local_as=_local_as(state, peer, node),
        router_id=router_id(node),
        families=families,
        next_hops=_next_hops(node, local, siblings, families, extended=peer.extended_next_hop),
        port=peer.port,
        listen_port=configuration.listen_port,
        hold_time=peer.hold_time if peer.hold_time is not None else configuration.hold_time,
        send_hold_time=peer.send_hold_time,
        graceful_restart=(
            peer.graceful_restart if peer.graceful_restart is not None else configuration.graceful_restart
        ),
        passive=peer.passive or (selected and int(local) > int(address)),
        listen=peer.passive or (selected and int(local) > int(address)),
        gtsm=peer.gtsm,
        multihop=peer.multihop,
        password=password,
        source_interface=interface,
        next_hop_mode=peer.next_hop,
        filters=peer.filters,
        max_prefixes=peer.max_prefixes,
        third_party_next_hops=peer.third_party_next_hops,
        allow_blackhole=peer.allow_blackhole,
        add_path=peer.add_path,
        extended_next_hop=peer.extended_next_hop,
        any_as=peer.interface is not None and peer.as_number is None,
        bfd=peer.bfd,
        bfd_secret=bfd_secret,
        to_node=selected,
    )


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
        peer_address=address,
        peer_as=node_as_number(state, other),
        local_address=local,
        local_as=node_as_number(state, node),
        router_id=router_id(node),
        families=families,
        next_hops=_next_hops(node, local, looked_up[1] if looked_up else (), families),
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


def _next_hops(
    node: Node,
    local: Address,
    siblings: tuple[Address, ...],
    families: frozenset[Family],
    *,
    extended: bool = False,
) -> dict[Family, Address]:
    """What we announce as next hop, by family: the session's own address, one beside it, or the node's.

    `extended`: the session's own IPv6 address for IPv4 too (RFC 8950). A link-local address is one only on a
    session between link-local addresses, whose peer knows the link.
    """
    hops: dict[Family, Address] = {}
    for family in families:
        if local.version == 6 and ((extended and family is Family.IPV4) or local.is_link_local):
            if extended or family is Family.IPV6:
                hops[family] = local
            continue
        for candidate in (local, *siblings, *node.addresses):
            if family_of(candidate) is family and not candidate.is_link_local:
                hops[family] = candidate
                break
    return hops


def _secret(secrets: Mapping[ObjectName, Secret], wanted: SecretKey) -> bytes | None:
    secret = secrets.get(wanted.secret)
    value = secret.values.get(wanted.key) if secret is not None else None
    return value or None  # an empty password is no password
