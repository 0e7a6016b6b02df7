"""Import and export policy: the refusals that protect the cluster, then filters, then RFC 8212.

Of an eBGP peer only what a policy names is imported: a filter's accepting rule, the import lists of
BGPConfiguration, or the declared state itself, whose pod blocks every node may learn from any peer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_network

from l3net.addresses import contains
from l3net.bgp.bogons import bogon_as_path, bogon_prefix
from l3net.bgp.next_hops import martian_next_hop
from l3net.bgp.path import Attributes, Path
from l3net.bgp.sessions import Session
from l3net.bgp.topology import reflectors
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.community import GRACEFUL_SHUTDOWN, AnyCommunity, ExtendedCommunity
from l3net.model import (
    Action,
    Address,
    BgpFilter,
    ClusterState,
    FilterRule,
    ImportPolicy,
    Operations,
    PoolUse,
    Prefix,
    PrefixOperator,
)

#: No prefix equals one of these or lies inside it: no packet to there may be forwarded (RFC 1122 section
#: 3.2.1.3, RFC 3927, RFC 4291). A prefix that only covers one is like any other, as the default route is.
MARTIANS: tuple[Prefix, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
        *("::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    )
)


def rule_matches(rule: FilterRule, path: Path, *, external: bool) -> bool:
    """Whether every condition the rule names holds for the path."""
    prefix = path.prefix
    if rule.cidr is not None:
        if rule.cidr.version != prefix.version:
            return False
        match rule.operator:
            case PrefixOperator.EQUAL:
                matched = prefix == rule.cidr
            case PrefixOperator.NOT_EQUAL:
                matched = prefix != rule.cidr
            case PrefixOperator.IN:
                matched = contains(rule.cidr, prefix)
            case PrefixOperator.NOT_IN:
                matched = not contains(rule.cidr, prefix)
        if not matched:
            return False
    if rule.min_length is not None and prefix.prefixlen < rule.min_length:
        return False
    if rule.max_length is not None and prefix.prefixlen > rule.max_length:
        return False
    if rule.external is not None and rule.external is not external:
        return False
    if not rule.communities <= path.attributes.communities:
        return False
    return path.attributes.as_path[: len(rule.as_path_prefix)] == rule.as_path_prefix


def apply_operations(attributes: Attributes, operations: Operations) -> Attributes:
    """The attributes after an accepting rule's operations."""
    if operations == Operations():
        return attributes
    return replace(
        attributes,
        communities=_communities(attributes.communities, operations),
        as_path=operations.prepend + attributes.as_path,
        as_path_length=len(operations.prepend) + attributes.as_path_length,
        local_preference=(
            operations.local_preference
            if operations.local_preference is not None
            else attributes.local_preference
        ),
        med=operations.med if operations.med is not None else attributes.med,
    )


def _communities(carried: frozenset[AnyCommunity], operations: Operations) -> frozenset[AnyCommunity]:
    if operations.set_communities is not None:
        carried = operations.set_communities
    carried -= operations.remove_communities
    if any(_is_bandwidth(community) for community in operations.add_communities):
        carried = frozenset(community for community in carried if not _is_bandwidth(community))
    return carried | operations.add_communities


def _is_bandwidth(community: AnyCommunity) -> bool:
    """A path has one bandwidth: a new one takes the place of the old."""
    return isinstance(community, ExtendedCommunity) and community.is_link_bandwidth


def run_filters(
    filters: Mapping[str, BgpFilter], session: Session, path: Path, *, importing: bool
) -> tuple[Judgement, Path]:
    """Ordered filters of ordered rules; the first rule that matches ends the search. No match accepts."""
    judgement, path = _first_match(filters, session, path, importing=importing)
    return judgement or ACCEPTED, path


def _first_match(
    filters: Mapping[str, BgpFilter], session: Session, path: Path, *, importing: bool
) -> tuple[Judgement | None, Path]:
    """What the first rule that matches says; None if there is none."""
    for name in session.filters:
        declared = filters.get(name)
        if declared is None:
            return Judgement(Verdict.FILTERED, name), path
        for rule in declared.imports if importing else declared.exports:
            if not rule_matches(rule, path, external=session.external):
                continue
            if rule.action is Action.REJECT:
                return Judgement(Verdict.FILTERED, name), path
            return ACCEPTED, replace(path, attributes=apply_operations(path.attributes, rule.operations))
    return None, path


@dataclass(frozen=True, slots=True)
class ClusterPrefixes:
    """What the declared state says are the cluster's own pods: any peer may lead there.

    `ranges`: IPPools for pods and `advertise.networks`. `blocks`: those of the other nodes, with the lengths
    they have, by IP version.
    """

    ranges: tuple[Prefix, ...] = ()
    blocks: frozenset[Prefix] = frozenset()
    lengths: Mapping[int, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @staticmethod
    def of(state: ClusterState, me: str) -> ClusterPrefixes:
        pools = tuple(pool.cidr for pool in state.pools.values() if PoolUse.PODS in pool.allowed_uses)
        blocks = frozenset(
            block for other in state.nodes.values() if other.name != me for block in other.blocks
        )
        lengths = {
            version: tuple(sorted({block.prefixlen for block in blocks if block.version == version}))
            for version in (4, 6)
        }
        return ClusterPrefixes((*pools, *state.configuration.advertise.networks), blocks, lengths)

    def __contains__(self, prefix: Prefix) -> bool:
        """Whether a prefix equals one of these or lies inside it."""
        return any(
            length <= prefix.prefixlen and prefix.supernet(new_prefix=length) in self.blocks
            for length in self.lengths.get(prefix.version, ())
        ) or any(contains(each, prefix) for each in self.ranges)


class _Ranges:
    """Whether an address is in one of many ranges, by one bisection."""

    def __init__(self, prefixes: Iterable[Prefix], version: int) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        spans = sorted(
            (int(prefix.network_address), int(prefix.broadcast_address))
            for prefix in prefixes
            if prefix.version == version
        )
        for first, last in spans:
            if not self._lasts or last > self._lasts[-1]:  # else inside the one before
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number)
        return place > 0 and number <= self._lasts[place - 1]


@dataclass(frozen=True, slots=True)
class Protected:
    """What no peer may take from this node: computed once for many paths."""

    policy: ImportPolicy
    own_addresses: frozenset[Address]
    own_blocks: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]
    service_addresses: frozenset[Address]
    connected: tuple[Prefix, ...]  # subnets of this node's links
    node_addresses: frozenset[Address]  # of the other nodes
    mesh_prefixes: Mapping[Address, frozenset[Prefix]]  # what each node may announce over the mesh
    alone: bool = False  # other nodes are not known: without the mesh an agent watches its own alone
    cluster: ClusterPrefixes = ClusterPrefixes()
    own_networks: frozenset[Prefix] = frozenset()  # what this node announces beside its blocks
    cluster_id: IPv4Address | None = None  # of the node, if it is a route reflector
    _node_numbers: Mapping[int, list[int]] = field(init=False, repr=False, compare=False)
    _delicate: Mapping[int, _Ranges] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        delicate = (*MARTIANS, *self.own_blocks, *self.service_ranges, *self.connected)
        ranges = {version: _Ranges(delicate, version) for version in (4, 6)}
        object.__setattr__(self, "_delicate", ranges)
        numbers = {
            version: sorted(int(address) for address in self.node_addresses if address.version == version)
            for version in (4, 6)
        }
        object.__setattr__(self, "_node_numbers", numbers)

    def taken(self, prefix: Prefix) -> Verdict | None:
        """Why no peer may lead to a prefix, whatever its path; None for most, found out by one bisection."""
        network = prefix.network_address
        alone = prefix.prefixlen == prefix.max_prefixlen
        if int(network) in self._delicate[prefix.version]:
            if any(contains(martian, prefix) for martian in MARTIANS):
                return Verdict.MARTIAN
            if any(contains(block, prefix) for block in self.own_blocks):
                return Verdict.OWN_BLOCK
            if any(contains(ours, prefix) for ours in self.service_ranges):
                return Verdict.SERVICE_CIDR
            if any(contains(subnet, prefix) for subnet in self.connected):
                return Verdict.NODE_SUBNET  # next hops are resolved on these
        if alone and network in self.service_addresses:
            return Verdict.SERVICE_CIDR
        if alone and network in self.own_addresses:
            return Verdict.NODE_SUBNET
        return None

    def holds_node(self, prefix: Prefix) -> bool:
        """Whether another node's address is inside a prefix; as quick for 5,000 nodes as for five."""
        numbers, first = self._node_numbers[prefix.version], int(prefix.network_address)
        place = bisect_left(numbers, first)
        size = 1 << (prefix.max_prefixlen - prefix.prefixlen)
        return place < len(numbers) and numbers[place] < first + size

    @staticmethod
    def of(state: ClusterState, me: str, connected: tuple[Prefix, ...], own: frozenset[Address]) -> Protected:
        """`connected` and `own` are the subnets and addresses of this node's links, the pod bridge apart."""
        node = state.nodes.get(me)
        configuration = state.configuration
        addresses: set[Address] = set()
        for service in state.services.values():
            addresses.update(service.cluster_ips, service.external_ips, service.load_balancer_ips)
        advertise = configuration.advertise
        ranges = (
            *configuration.service_cidrs,
            *advertise.cluster_ips.cidrs,
            *advertise.external_ips.cidrs,
            *advertise.load_balancer_ips.cidrs,
        )
        others = [other for other in state.nodes.values() if other.name != me]
        # By address and not by node: the Node of a machine that is no more may still have another's address,
        # and takes nothing from it.
        mesh: dict[Address, set[Prefix]] = {}
        for other in others:
            for address in other.addresses:
                mesh.setdefault(address, set(advertise.networks)).update(other.blocks)
        return Protected(
            policy=configuration.imports,
            own_addresses=own | frozenset(node.addresses if node else ()),
            own_blocks=node.blocks if node else (),
            service_ranges=ranges,
            service_addresses=frozenset(addresses),
            connected=connected,
            node_addresses=frozenset(address for other in others for address in other.addresses),
            mesh_prefixes={address: frozenset(prefixes) for address, prefixes in mesh.items()},
            alone=not others and not configuration.mesh,
            cluster=ClusterPrefixes.of(state, me),
            # Whoever announces an aggregate too has the rest of it no more than we do: learned from one
            # another, it would take packets in circles. A default route is asked for by name.
            own_networks=frozenset(each for each in advertise.networks if each.prefixlen),
            cluster_id=configuration.cluster_id if me in reflectors(state) else None,
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """What is the same for every prefix of one session, next hop and attributes."""

    session: Session
    hop: Address
    received: Attributes
    attributes: Attributes  # without what means nothing of this peer
    refusal: Verdict | None
    mesh: frozenset[Prefix] | None  # all that may be learned this way, if it is a node's
    hop_known: bool
    shutdown: bool
    versions: frozenset[int]  # of the families that the session carries


class ImportJudge:
    """Whether a learned path may be used, and the path after the filters' operations.

    The refusals come first and no filter lifts them: they keep a peer, careless or hostile, from drawing
    this node's own traffic. Only BGPConfiguration.spec.import widens them. Of each path of
    an UPDATE, only what depends on its prefix is looked at anew.
    """

    def __init__(self, protected: Protected, filters: Mapping[str, BgpFilter]) -> None:
        self._protected = protected
        self._filters = filters
        self._last: _Way | None = None

    def __call__(self, session: Session, path: Path) -> tuple[Judgement, Path]:
        way = self._last
        if (
            way is None
            or way.received is not path.attributes
            or way.hop is not path.next_hop
            or way.session is not session
        ):
            way = self._last = _way(self._protected, session, path.next_hop, path.attributes)
        if way.attributes is not path.attributes:
            path = replace(path, attributes=way.attributes)
        verdict = way.refusal or self._refusal(way, path.prefix)
        if verdict is not None:
            return Judgement(verdict), path
        judgement: Judgement | None = None
        if session.filters:
            judgement, path = _first_match(self._filters, session, path, importing=True)
        if judgement is None:
            unnamed = session.external and not session.mesh and not _named(self._protected, path.prefix)
            judgement = Judgement(Verdict.NO_POLICY) if unnamed else ACCEPTED
        same = path.attributes is way.attributes
        if way.shutdown if same else GRACEFUL_SHUTDOWN in path.attributes.communities:
            # RFC 8326 section 4.1
            path = replace(path, attributes=replace(path.attributes, local_preference=0))
        return judgement, path

    def _refusal(self, way: _Way, prefix: Prefix) -> Verdict | None:
        protected = self._protected
        if prefix.version not in way.versions:
            return Verdict.FAMILY_NOT_NEGOTIATED
        if protected.own_networks and prefix in protected.own_networks:
            return Verdict.OWN_NETWORK
        if way.mesh is not None:
            if prefix not in way.mesh or prefix in protected.own_blocks:
                return Verdict.NOT_OF_NODE
            if prefix.prefixlen == 0 and not protected.policy.default_route:
                return Verdict.DEFAULT_ROUTE  # two nodes that announce one would send to one another
            return None
        policy = protected.policy
        if prefix.prefixlen == 0:
            if not policy.default_route:
                return Verdict.DEFAULT_ROUTE
            return None if way.hop_known else Verdict.NEXT_HOP_UNKNOWN
        taken = protected.taken(prefix)
        if taken is not None:
            return taken
        if not policy.node_subnets and protected.holds_node(prefix):
            return Verdict.NODE_SUBNET
        unasked = _unasked(policy, prefix)
        if unasked is not None and prefix not in protected.cluster:
            return unasked
        return None if way.hop_known else Verdict.NEXT_HOP_UNKNOWN


def _named(protected: Protected, prefix: Prefix) -> bool:
    """Whether anything but a filter asks for the prefix: what RFC 8212 wants before an eBGP route is used.

    That `_refusal` has let a default route or a prefix pass beside `cidrs` means that it is asked for.
    """
    policy = protected.policy
    return (
        not policy.ebgp_requires_policy
        or prefix.prefixlen == 0
        or policy.cidrs is not None
        or prefix in protected.cluster
        or (policy.node_subnets and protected.holds_node(prefix))
    )


def _unasked(policy: ImportPolicy, prefix: Prefix) -> Verdict | None:
    """What BGPConfiguration's import lists refuse, unless it is the cluster's own."""
    if bogon_prefix(policy.bogons, prefix):
        return Verdict.BOGON_PREFIX
    if policy.cidrs is None:
        return None
    for cidr in policy.cidrs:  # no generator: this is asked for every path
        if contains(cidr, prefix):
            return None
    return Verdict.OUTSIDE_IMPORT_CIDRS


def _way(protected: Protected, session: Session, hop: Address, received: Attributes) -> _Way:
    attributes = received
    if session.external and (
        received.local_preference is not None or received.originator is not None or received.clusters
    ):
        # From an eBGP peer these mean nothing (RFC 4271 section 5.1.5, RFC 7606 sections 7.9 and 7.10)
        attributes = replace(received, local_preference=None, originator=None, clusters=())
    mesh: frozenset[Prefix] | None = None
    if session.mesh:
        # A node speaks for its own blocks, a route reflector also for others' with their own next hop.
        speaker = hop if session.reflector else session.peer_address
        mesh = protected.mesh_prefixes.get(speaker, frozenset())
    return _Way(
        session,
        hop,
        received,
        attributes,
        _way_refusal(protected, session, hop, attributes),
        mesh,
        _known_next_hop(protected, session, hop),
        GRACEFUL_SHUTDOWN in attributes.communities,
        frozenset(family.value for family in session.families),
    )


def _way_refusal(
    protected: Protected, session: Session, hop: Address, attributes: Attributes
) -> Verdict | None:
    if session.local_as in attributes.as_path:  # RFC 4271 section 9.1.2
        return Verdict.OWN_AS
    if 0 in attributes.as_path:  # RFC 7607 section 2
        return Verdict.AS_ZERO
    if attributes.confederation:  # RFC 5065 section 5; we are in none
        return Verdict.CONFEDERATION
    own_cluster = session.cluster_id or protected.cluster_id  # on every session, whomever we reflect for
    if not session.external and (
        attributes.originator == session.router_id
        or (own_cluster is not None and own_cluster in attributes.clusters)
    ):
        return Verdict.REFLECTION_LOOP  # RFC 4456 section 8
    if not hop.is_loopback and (hop in protected.own_addresses or hop == session.local_address):
        return Verdict.NEXT_HOP_SELF
    if martian_next_hop(hop, protected.connected) or any(hop in block for block in protected.own_blocks):
        return Verdict.NEXT_HOP_INVALID  # a pod is no router either
    if session.mesh:
        return None
    return Verdict.BOGON_AS if bogon_as_path(protected.policy.bogons, attributes.as_path) else None


def _known_next_hop(protected: Protected, session: Session, hop: Address) -> bool:
    """A directly connected eBGP peer speaks for itself and for the nodes (RFC 4271 section 5.1.3, 2).

    The next hop of the other family over one session is an address of the peer that we cannot know; it has to
    be on a link of ours. So has that of a node when nodes are not known. Inside an AS, and over several hops,
    next hops are those of the AS's borders.
    """
    if not session.external or session.multihop is not None or session.third_party_next_hops:
        return True
    if hop == session.peer_address or hop in protected.node_addresses:
        return True
    if hop.version == 6 and hop.is_link_local:  # RFC 2545: on the session's link. IPv4's are like any other
        return True
    if hop.version != session.peer_address.version or protected.alone:
        return any(hop in subnet for subnet in protected.connected)
    return False
