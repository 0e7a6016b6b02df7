"""What a BGP session is, and why a declared peer may have none."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from l3net.model import (
    DEFAULT_MAX_PREFIXES,
    Address,
    BfdSettings,
    ClusterState,
    Family,
    NextHopMode,
    Node,
)


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session, complete: everything ExaBGP and the policy need to know. Times are in seconds."""

    name: str  # as users see it: the BGPPeer's, or mesh:NODE
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
    mesh_node: str | None = None  # the node at the other end of a session of the mesh
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
        """Whether it is one of the node-to-node mesh."""
        return self.mesh_node is not None


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
