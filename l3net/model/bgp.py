"""BGPConfiguration and BGPPeer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address

from l3net.community import AnyCommunity
from l3net.model.bfd import BfdSettings
from l3net.model.draining import DEFAULT_DRAIN, DrainPolicy
from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import Address, Family, Prefix, SecretKey


@dataclass(frozen=True, slots=True)
class AddressKind:
    """One kind of service address: advertised or not, and the allow-list that bounds it.

    `cidrs` empty: every ClusterIP is allowed, no external or load-balancer address is (CVE-2020-8554).
    """

    enabled: bool = False
    cidrs: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class AdvertisePolicy:
    pod_blocks: bool = True
    cluster_ips: AddressKind = AddressKind(enabled=True)
    external_ips: AddressKind = AddressKind()
    load_balancer_ips: AddressKind = AddressKind()
    service_selector: Selector = EVERYTHING  # services whose addresses are announced, by their labels
    networks: tuple[Prefix, ...] = ()  # further prefixes each node announces as its own
    communities: frozenset[AnyCommunity] = frozenset()
    consistent: bool = False  # spec.loadBalancing: what services do that say nothing


@dataclass(frozen=True, slots=True)
class Bogons:
    """Which prefixes and AS numbers that have no place between networks are refused (RFC 6890, RFC 7249).

    The private ones (RFC 1918, RFC 6598, RFC 4193; RFC 6996) apart, since many networks run on them.
    """

    prefixes: bool = False
    private_prefixes: bool = False
    as_numbers: bool = False
    private_as_numbers: bool = False


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """What may be learned from peers.

    `cidrs`: only prefixes inside these and the cluster's own; None names none and excludes none.
    `default_route`, `node_subnets`: may be learned although they are refused by default.
    `ebgp_requires_policy`: an eBGP peer's prefix that no policy names is refused (RFC 8212).
    """

    cidrs: tuple[Prefix, ...] | None = None
    default_route: bool = False
    node_subnets: bool = False
    ebgp_requires_policy: bool = True
    bogons: Bogons = Bogons()


class Topology(enum.Enum):
    """How the nodes learn of one another's blocks over iBGP."""

    MESH = "Mesh"  # every node with every other
    REFLECTORS = "RouteReflectors"  # every node with the route reflectors (RFC 4456)
    AUTO = "Auto"  # a mesh that becomes reflectors as the cluster grows


DEFAULT_CLUSTER_ID = IPv4Address("10.0.0.1")


@dataclass(frozen=True, slots=True)
class NodePortAddresses:
    """On which of its addresses a node serves NodePorts: all that its Node has, the first of each family, or
    those of its own that lie in `cidrs`."""

    primary: bool = False
    cidrs: tuple[Prefix, ...] = ()


class ServiceProxy(enum.Enum):
    """Whether l3net translates the addresses of services on the nodes."""

    AUTO = "Auto"  # where no kube-proxy answers
    ENABLED = "Enabled"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class BmpCollector:
    """A collector of BMP messages (RFC 7854), and the nodes that send it some."""

    name: str
    address: Address
    port: int
    node_selector: Selector = EVERYTHING


@dataclass(frozen=True, slots=True)
class BgpConfiguration:
    """The cluster-wide BGPConfiguration (the object named `default`). Times are in seconds."""

    as_number: int = 64512
    listen_port: int = 179
    mesh: bool = True
    hold_time: int = 90
    graceful_restart: int = 120  # restart time; 0 turns it off
    advertise: AdvertisePolicy = AdvertisePolicy()
    imports: ImportPolicy = ImportPolicy()
    service_cidrs: tuple[Prefix, ...] = ()
    node_ports: NodePortAddresses = NodePortAddresses()
    service_proxy: ServiceProxy = ServiceProxy.AUTO
    topology: Topology = Topology.MESH
    cluster_id: IPv4Address = DEFAULT_CLUSTER_ID  # of the route reflectors, all of them one cluster
    reflector_selector: Selector | None = None  # None: chosen by themselves
    reflectors_from: int = 100  # nodes at which `AUTO` takes to reflectors
    transit: bool = False  # re-advertise learned routes: for routers, never for nodes
    bfd: BfdSettings | None = None  # of the sessions of the mesh
    drain: DrainPolicy = DEFAULT_DRAIN
    collectors: tuple[BmpCollector, ...] = ()


#: Prefixes a peer may announce of each family unless its BGPPeer says otherwise.
DEFAULT_MAX_PREFIXES = 200_000


class NextHopMode(enum.Enum):
    SELF = "Self"
    KEEP = "Keep"


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A BGPPeer: `address`, the nodes `peer_selector` selects, or whoever is on `interface`, as seen from the
    nodes chosen.

    The nodes chosen are those named in `nodes` (if any) that `node_selector` selects.
    Times are in seconds; None takes BGPConfiguration's value.
    """

    name: str
    address: Address | None = None
    peer_selector: Selector | None = None
    as_number: int | None = None  # None with peer_selector: the far node's own; with interface: any other
    port: int = 179
    nodes: tuple[str, ...] = ()
    node_selector: Selector = EVERYTHING
    families: frozenset[Family] | None = None  # None: the family of the session's addresses
    password: SecretKey | None = None
    local_address: Address | None = None
    source_interface: str | None = None
    passive: bool = False
    multihop: int | None = None  # TTL of an eBGP session over several hops
    gtsm: bool = False  # RFC 5082
    next_hop: NextHopMode = NextHopMode.SELF
    hold_time: int | None = None
    send_hold_time: int | None = None  # RFC 9687; 0: none
    graceful_restart: int | None = None
    filters: tuple[str, ...] = ()
    local_as: int | None = None  # speak as this AS to the peer instead of the node's
    interface: str | None = None  # unnumbered: the peers are the routers on this link
    extended_next_hop: bool = False  # RFC 8950: IPv4 prefixes with IPv6 next hops, both ways
    default_gateway: bool = False  # autodiscover: the peers are the gateways of this node's default routes
    max_prefixes: int = DEFAULT_MAX_PREFIXES  # of each family; beyond it nothing more is imported
    third_party_next_hops: bool = False  # eBGP: believe a next hop that is neither the peer nor a node
    allow_blackhole: bool = False  # honour the BLACKHOLE community (RFC 7999)
    add_path: bool = False  # receive several paths to a prefix (RFC 7911)
    bfd: BfdSettings | None = None
