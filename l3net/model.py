"""The facts every room speaks in: frozen values, compared by equality, free of I/O.

Field names follow the Kubernetes API and the BGP RFCs; addresses and prefixes are `ipaddress` types.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from l3net.community import AnyCommunity

Address: TypeAlias = IPv4Address | IPv6Address
Prefix: TypeAlias = IPv4Network | IPv6Network
Labels: TypeAlias = Mapping[str, str]


class Family(enum.Enum):
    """An address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6


class Kind(enum.Enum):
    """The kinds of declared object l3net reads; the value is the Kubernetes kind."""

    NODE = "Node"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NAMESPACE = "Namespace"
    SECRET = "Secret"  # noqa: S105 - a kind, not a password
    BGP_CONFIGURATION = "BGPConfiguration"
    BGP_PEER = "BGPPeer"
    BGP_FILTER = "BGPFilter"
    IP_POOL = "IPPool"


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """Namespace and name of a declared object; the namespace of a cluster-scoped one is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


# --- selectors -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a LabelSelector's matchExpressions (Kubernetes meta/v1)."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """A LabelSelector (Kubernetes meta/v1): every requirement must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERYTHING = Selector()

# --- Kubernetes objects ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a Node (core/v1), without its value."""

    key: str
    effect: str  # NoSchedule, PreferNoSchedule, NoExecute


@dataclass(frozen=True, slots=True)
class Node:
    """A Node (core/v1). `addresses` are its InternalIPs.

    `blocks` are its podCIDRs and those that the annotation l3net.io/blocks adds, in this order; of the node
    an agent runs on, after them those that were, in which pods still run: they are `retained` too.
    `shutting_down`: kubelet says so in the condition Ready, which is False then (graceful node shutdown).
    """

    name: str
    addresses: tuple[Address, ...] = ()
    blocks: tuple[Prefix, ...] = ()
    as_number: int | None = None  # annotation l3net.io/as-number
    labels: Labels = field(default_factory=dict, hash=False)
    annotations: Labels = field(default_factory=dict, hash=False)
    ready: bool = True
    unschedulable: bool = False
    taints: frozenset[Taint] = frozenset()
    shutting_down: bool = False
    retained: tuple[Prefix, ...] = ()

    @property
    def declared_blocks(self) -> tuple[Prefix, ...]:
        """Those that new pods may have addresses of."""
        return tuple(block for block in self.blocks if block not in self.retained)


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Labels = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret (core/v1), decoded. Its repr hides the values."""

    name: ObjectName
    values: Mapping[str, bytes] = field(repr=False, default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    protocol: str  # TCP, UDP, SCTP
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """A Service (core/v1). Headless services have no cluster_ips.

    `created` is its creationTimestamp (RFC 3339, UTC, so that text orders by time); empty where there is
    none, as in a directory of manifests. `affinity_timeout` in seconds, 0: none. `source_ranges` None: all.
    """

    name: ObjectName
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()  # status.loadBalancer.ingress[].ip
    wanted_ip: Address | None = None  # spec.loadBalancerIP
    ports: tuple[ServicePort, ...] = ()
    internal_traffic_local: bool = False  # internalTrafficPolicy: Local
    external_traffic_local: bool = False  # externalTrafficPolicy: Local
    affinity_timeout: int = 0  # sessionAffinity: ClientIP, and for how long
    source_ranges: tuple[Prefix, ...] | None = None  # loadBalancerSourceRanges
    created: str = ""
    load_balancer_class: str | None = None
    publish_not_ready: bool = False
    labels: Labels = field(default_factory=dict, hash=False)
    annotations: Labels = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a slice (discovery/v1). `ready` is already resolved: null means true."""

    address: Address
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """An EndpointSlice (discovery/v1) of the service its label names; `ports`: name to (protocol, port)."""

    name: ObjectName
    service: ObjectName
    endpoints: tuple[Endpoint, ...] = ()
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict, hash=False)


# --- l3net's own resources -------------------------------------------------------------------------------


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


class DrainCause(enum.Enum):
    """Why a node drains. The value is what users see."""

    CORDON = "cordon"  # spec.unschedulable
    TAINT = "taint"
    SHUTDOWN = "shutdown"  # kubelet's graceful node shutdown
    LEAVE = "leave"  # `l3net node drain`


#: Taints by which others say that a node is about to go: the cluster autoscaler, Karpenter, cloud providers.
DRAIN_TAINTS = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "node.cloudprovider.kubernetes.io/shutdown",
        "node.kubernetes.io/out-of-service",
    }
)


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """When a node drains, and how: first its routes are tagged GRACEFUL_SHUTDOWN (RFC 8326), later withdrawn.

    `wait`: seconds between the two. `prepend`: how often its AS number is put before the AS_PATH for eBGP
    peers, for routers that do not know the community.
    """

    on_cordon: bool = True
    taints: frozenset[str] = DRAIN_TAINTS
    wait: int = 10
    prepend: int = 3

    def cause(self, node: Node) -> DrainCause | None:
        """Why this Node drains, as far as its object tells; None if it does not."""
        if node.shutting_down:
            return DrainCause.SHUTDOWN
        if any(taint.key in self.taints and taint.effect != "PreferNoSchedule" for taint in node.taints):
            return DrainCause.TAINT
        if self.on_cordon and node.unschedulable:
            return DrainCause.CORDON
        return None


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
    topology: Topology = Topology.MESH
    cluster_id: IPv4Address = DEFAULT_CLUSTER_ID  # of the route reflectors, all of them one cluster
    reflector_selector: Selector | None = None  # None: chosen by themselves
    reflectors_from: int = 100  # nodes at which `AUTO` takes to reflectors
    transit: bool = False  # re-advertise learned routes: for routers, never for nodes
    bfd: BfdSettings | None = None  # of the sessions of the mesh
    drain: DrainPolicy = DrainPolicy()


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key inside a Secret."""

    secret: ObjectName
    key: str


#: Prefixes a peer may announce of each family unless its BGPPeer says otherwise.
DEFAULT_MAX_PREFIXES = 200_000


class BfdAuthType(enum.Enum):
    """Authentication of BFD packets (RFC 5880 section 6.7)."""

    SIMPLE_PASSWORD = "SimplePassword"  # noqa: S105 - a type, not a password
    KEYED_MD5 = "KeyedMD5"
    METICULOUS_KEYED_MD5 = "MeticulousKeyedMD5"
    KEYED_SHA1 = "KeyedSHA1"
    METICULOUS_KEYED_SHA1 = "MeticulousKeyedSHA1"

    @property
    def longest_secret(self) -> int:
        """In bytes (RFC 5880 sections 4.2 to 4.4)."""
        return 20 if self in (BfdAuthType.KEYED_SHA1, BfdAuthType.METICULOUS_KEYED_SHA1) else 16


@dataclass(frozen=True, slots=True)
class BfdAuth:
    """How BFD packets are authenticated, and where the secret is."""

    type: BfdAuthType
    key_id: int
    password: SecretKey


@dataclass(frozen=True, slots=True)
class BfdSettings:
    """BFD beside a BGP session (RFC 5880). `min_interval` in milliseconds, both sent and received.

    The far side is given up `multiplier` intervals after it was last heard. `echo_transmit`, `echo_receive`:
    the least interval of Echo packets, ours and the far side's (section 6.8.9), 0 for none.
    """

    min_interval: int = 300
    multiplier: int = 3
    passive: bool = False  # wait for the far side's first packet
    auth: BfdAuth | None = None
    echo_transmit: int = 0
    echo_receive: int = 0


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


class Action(enum.Enum):
    ACCEPT = "Accept"
    REJECT = "Reject"


class PrefixOperator(enum.Enum):
    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


@dataclass(frozen=True, slots=True)
class Operations:
    """What an accepting rule changes on the path; of communities what is set, then removed, then added."""

    add_communities: frozenset[AnyCommunity] = frozenset()
    prepend: tuple[int, ...] = ()
    local_preference: int | None = None
    med: int | None = None
    set_communities: frozenset[AnyCommunity] | None = None  # these and no others
    remove_communities: frozenset[AnyCommunity] = frozenset()


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: every condition given must hold; the first rule that matches ends the search."""

    action: Action
    cidr: Prefix | None = None
    operator: PrefixOperator = PrefixOperator.IN
    min_length: int | None = None
    max_length: int | None = None
    external: bool | None = None  # peerType: True eBGP, False iBGP
    communities: frozenset[AnyCommunity] = frozenset()  # the path carries all of them
    as_path_prefix: tuple[int, ...] = ()
    operations: Operations = Operations()


@dataclass(frozen=True, slots=True)
class BgpFilter:
    """A BGPFilter: ordered rules for each direction; a path no rule matches goes on to the next filter."""

    name: str
    imports: tuple[FilterRule, ...] = ()
    exports: tuple[FilterRule, ...] = ()


class PoolUse(enum.Enum):
    PODS = "Pods"
    LOAD_BALANCER = "LoadBalancer"


@dataclass(frozen=True, slots=True)
class IpPool:
    """An IPPool: the CIDR that node blocks or load-balancer addresses come from."""

    name: str
    cidr: Prefix
    block_size: int
    nat_outgoing: bool = False
    disabled: bool = False
    advertise: bool = True
    node_selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    allowed_uses: frozenset[PoolUse] = frozenset({PoolUse.PODS})


Fact: TypeAlias = (
    Node | Namespace | Secret | Service | EndpointSlice | BgpConfiguration | BgpPeer | BgpFilter | IpPool
)


@dataclass(slots=True)
class ClusterState:
    """The declared state as last heard, by kind and name. The loop owns it; decisions only read it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    secrets: dict[ObjectName, Secret] = field(default_factory=dict)
    services: dict[ObjectName, Service] = field(default_factory=dict)
    slices: dict[ObjectName, EndpointSlice] = field(default_factory=dict)
    configuration: BgpConfiguration = field(default_factory=BgpConfiguration)
    peers: dict[str, BgpPeer] = field(default_factory=dict)
    filters: dict[str, BgpFilter] = field(default_factory=dict)
    pools: dict[str, IpPool] = field(default_factory=dict)


# --- services as the dataplane needs them ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: Address
    port: int


#: What a virtual server answers to: address, protocol in lower case, port.
ServerKey: TypeAlias = tuple[Address, str, int]


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One service address and port, and the backends new connections go to on this node.

    No backend: connections are refused. `internal` serve traffic from this node's pods and processes,
    `external` traffic that arrives from other machines; they differ when a traffic policy is Local. A client
    comes back to its backend for `affinity` seconds (0: to any). Only `sources` are served (None: all). Flows
    that began earlier may go on to `lasting` backends, also where new ones do not (told of UDP alone).
    """

    address: Address
    protocol: str  # tcp, udp, sctp
    port: int
    internal: tuple[Backend, ...] = ()
    external: tuple[Backend, ...] = ()
    affinity: int = 0
    sources: tuple[Prefix, ...] | None = None
    lasting: tuple[Backend, ...] = ()

    @property
    def key(self) -> ServerKey:
        return (self.address, self.protocol, self.port)


# --- kernel objects --------------------------------------------------------------------------------------


class RouteKind(enum.Enum):
    UNICAST = 1
    BLACKHOLE = 6


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a unicast route leads. `interface` is a link name, `weight` the ECMP share (1 to 256).

    Without a `gateway` the destination is on the link.
    """

    gateway: Address | None
    interface: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """One FIB entry of ours, wanted or seen; equality is all that `diff` looks at.

    `source`: the address that packets of this host leave from by it; None leaves that to the kernel.
    """

    prefix: Prefix
    next_hops: frozenset[NextHop] = frozenset()
    kind: RouteKind = RouteKind.UNICAST
    metric: int = 0
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """The node's pod bridge: its gateway addresses with the blocks' prefix lengths, MAC and MTU."""

    name: str
    mac: str
    mtu: int
    gateways: frozenset[tuple[Address, int]]


@dataclass(frozen=True, slots=True)
class Stale:
    """Tracked connections whose translation has changed: those for which everything said here is true.

    `protocol` is IANA's number. `destinations` and `port` are what the client sends to (none, 0: whatever),
    `answered_by` is who answers after translation (None: whoever). Those answered by one of `kept`, as
    (address, port; 0 for any), are as they should be: with the endpoints in force, what remains is stale.
    `untouched`: only those that nothing translated and nobody has answered.
    """

    protocol: int
    destinations: frozenset[Address] = frozenset()
    port: int = 0
    answered_by: Address | None = None
    kept: frozenset[tuple[Address, int]] = frozenset()
    untouched: bool = False
