"""Import and export policy: the refusals that protect the cluster, then filters, then RFC 8212.

Of an eBGP peer only what a policy names is imported: a filter's accepting rule, the import lists of
BGPConfiguration, or the declared state itself, whose pod blocks every node may learn from any peer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final

from l3net.addresses import contains, host_prefix
from l3net.bgp.bogons import blocks as bogon_blocks
from l3net.bgp.bogons import bogon_as_path, bogon_prefix
from l3net.bgp.filters import first_match
from l3net.bgp.next_hops import martian_next_hop
from l3net.bgp.path import Attributes, Path, Said
from l3net.bgp.protected import MARTIANS, Protected
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.community import GRACEFUL_SHUTDOWN
from l3net.model import (
    Address,
    BgpFilter,
    ImportPolicy,
    Prefix,
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
    of_node: bool  # whoever speaks is a node


#: Length of the blocks of which one prefix stands for others, by version.
_BLOCK: Final = {4: 16, 6: 32}
#: Fewer prefixes than this are looked at one by one.
_FEW: Final = 8


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
        self._mixed: frozenset[tuple[int, int]] | None = None

    def of_all(self, session: Session, said: Said) -> Iterator[tuple[Judgement, Attributes]]:
        """As `__call__` of each path, the attributes in place of the path.

        Prefixes of one length in one block (_BLOCK) are judged alike unless something that policy looks at
        begins inside the block; so of a table's thousands few have to be looked at.
        """
        way = self._way(session, said.next_hop, said.attributes)
        if way.refusal is not None:
            yield from repeat((Judgement(way.refusal), way.attributes), len(said.prefixes))
            return
        one = self._one
        if len(said.prefixes) < _FEW or way.mesh is not None:
            for prefix in said.prefixes:
                yield one(way, said, prefix)
            return
        mixed = self._mixed
        if mixed is None:
            mixed = self._mixed = frozenset(_blocks(self._protected, self._filters.values()))
        known: dict[tuple[int, int, int], tuple[Judgement, Attributes]] = {}
        for prefix in said.prefixes:
            version, length = prefix.version, prefix.prefixlen
            bits = _BLOCK[version]
            block = int(prefix.network_address) >> (prefix.max_prefixlen - bits)
            if (version, block) in mixed:
                yield one(way, said, prefix)
                continue
            found = known.get((version, block, length))
            if found is None:
                found = known[version, block, length] = one(way, said, prefix)
            yield found

    def _one(self, way: _Way, said: Said, prefix: Prefix) -> tuple[Judgement, Attributes]:
        judgement, path = self._of(way, Path(prefix, said.next_hop, said.attributes, said.path_id))
        return judgement, path.attributes

    def __call__(self, session: Session, path: Path) -> tuple[Judgement, Path]:
        return self._of(self._way(session, path.next_hop, path.attributes), path)

    def _way(self, session: Session, hop: Address, attributes: Attributes) -> _Way:
        way = self._last
        if way is None or way.received is not attributes or way.hop is not hop or way.session is not session:
            way = self._last = _way(self._protected, session, hop, attributes)
        return way

    def _of(self, way: _Way, path: Path) -> tuple[Judgement, Path]:
        session = way.session
        if way.attributes is not path.attributes:
            path = replace(path, attributes=way.attributes)
        verdict = way.refusal or self._refusal(way, path.prefix)
        if verdict is not None:
            return Judgement(verdict), path
        judgement: Judgement | None = None
        if session.filters:
            judgement, path = first_match(self._filters, session, path, importing=True)
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
            if prefix in protected.own_blocks or (
                prefix not in way.mesh and not (way.of_node and protected.kept_by_node(prefix))
            ):
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


def _blocks(protected: Protected, filters: Iterable[BgpFilter]) -> Iterator[tuple[int, int]]:
    """The blocks inside which prefixes of one length may be judged differently, by version and number."""
    policy, cluster = protected.policy, protected.cluster
    addresses = *protected.own_addresses, *protected.service_addresses, *protected.node_addresses
    looked_at = chain(
        *(MARTIANS, protected.own_blocks, protected.own_networks, protected.service_ranges),
        *(protected.connected, policy.cidrs or (), cluster.ranges, cluster.blocks, bogon_blocks()),
        (rule.cidr for each in filters for rule in each.imports if rule.cidr is not None),
        map(host_prefix, addresses),
    )
    for prefix in looked_at:
        bits = _BLOCK[prefix.version]
        if prefix.prefixlen >= bits:
            yield prefix.version, int(prefix.network_address) >> (prefix.max_prefixlen - bits)


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
    of_node = False
    if session.mesh:
        # A node speaks for its own blocks, a route reflector also for others' with their own next hop.
        speaker = hop if session.reflector else session.peer_address
        of_node = speaker in protected.mesh_prefixes
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
        of_node,
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
