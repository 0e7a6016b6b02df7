"""What each peer shall hear from this node: the Adj-RIB-Out as the declared state wants it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network

from l3net.bgp.drain import Stage, last_choice
from l3net.bgp.filters import Alike, run_filters
from l3net.bgp.loc_rib import Candidate
from l3net.bgp.path import Attributes, Path, path_to
from l3net.bgp.sessions import Session, family_of, router_id
from l3net.bgp.verdict import Export, Verdict
from l3net.community import LLGR_STALE, NO_ADVERTISE, NO_EXPORT, AnyCommunity, ExtendedCommunity
from l3net.model import Address, ClusterState, Family, NextHopMode, Prefix

AdjRibOut = dict[Prefix, Path]


def adj_rib_out(
    state: ClusterState,
    session: Session,
    prefixes: Collection[Prefix],
    learned: Mapping[Prefix, Candidate] | None = None,
    drain: Stage = Stage.NONE,
) -> AdjRibOut:
    """The paths for one peer, after export filters: of `prefixes`, this node's own (l3net.announce), and of
    what it passes on.

    While the node drains all that leads through it is the last choice, whatever a filter says of preference;
    what it reflects leads elsewhere and stays as it is.

    `learned` are the best paths, for a router with `transit: true` and for a node that reflects;
    any other node never passes on what it learned (projectcalico/calico#3810).
    """
    if drain >= Stage.WITHDRAWN or not (prefixes or learned):
        return {}
    configuration = state.configuration
    wanted = _OwnPaths(state, session).paths(prefixes)
    if configuration.transit and learned:
        for prefix, best in learned.items():
            if prefix in wanted or session.peer_as in best.path.attributes.as_path:
                continue
            passed_on = _transit(session, best.path)
            if passed_on is not None:
                _export(state, session, passed_on, wanted)
    if drain is not Stage.NONE:
        prepend = configuration.drain.prepend
        for prefix, path in wanted.items():
            wanted[prefix] = replace(path, attributes=last_choice(session, path.attributes, prepend))
    if session.mesh and session.cluster_id is not None and learned:
        for prefix, best in learned.items():
            reflected = reflect(state, session, best)
            if reflected is not None and prefix not in wanted:
                _export(state, session, reflected, wanted)
    return wanted


def export_verdict(
    state: ClusterState, session: Session, prefix: Prefix, drain: Stage, *, mesh: bool
) -> tuple[Export, str]:
    """Whether `adj_rib_out` has an own prefix for a peer, why not, and the name of the filter if one says so.
    `mesh`: peers of the mesh hear such a prefix too."""
    if drain >= Stage.WITHDRAWN:
        return Export.NODE_DRAINING, ""
    if session.mesh and not mesh:
        return Export.MESH_PEER, ""
    found = _OwnPaths(state, session).path(prefix)
    return (Export.ANNOUNCED, "") if isinstance(found, Path) else found


class _OwnPaths:
    """Prefixes of this node's as one peer hears them. All but the prefix is the same of all."""

    def __init__(self, state: ClusterState, session: Session) -> None:
        attributes = Attributes(communities=state.configuration.advertise.communities)
        self._filters = Alike(state.filters, session, attributes, importing=False)
        self._hops: dict[int, Address | Export] = {
            family.value: session.next_hops.get(family, Export.NO_NEXT_HOP)
            if family in session.families
            else Export.FAMILY_NOT_NEGOTIATED
            for family in Family
        }

    def paths(self, prefixes: Iterable[Prefix]) -> AdjRibOut:
        """Those that the peer hears of."""
        tried = ((prefix, self.path(prefix)) for prefix in prefixes)
        return {prefix: found for prefix, found in tried if isinstance(found, Path)}

    def path(self, prefix: Prefix) -> Path | tuple[Export, str]:
        """After export filters; else why the peer does not hear of it, and which filter says so."""
        hop = self._hops[4 if isinstance(prefix, IPv4Network) else 6]
        if isinstance(hop, Export):
            return hop, ""
        judgement, attributes = self._filters.run(prefix)
        if judgement.verdict is not Verdict.ACCEPTED:
            return Export.FILTERED, judgement.by
        return path_to(prefix, hop, attributes)


def passes_on(state: ClusterState, sessions: Iterable[Session]) -> bool:
    """Whether this node announces what it learned: a router, or a route reflector."""
    return state.configuration.transit or any(session.cluster_id is not None for session in sessions)


def reflect(state: ClusterState, session: Session, best: Candidate) -> Path | None:
    """A path learned inside the AS as a route reflector passes it on (RFC 4456 sections 6 and 8).

    From a client to every other peer, from a non-client to clients; the next hop stays, the originator and
    our cluster are put down.
    """
    source, attributes = best.session, best.path.attributes
    if not source.mesh or source.peer_address == session.peer_address or session.cluster_id is None:
        return None
    if source.name == session.name or not (source.client or session.client):
        return None
    if family_of(best.path.prefix.network_address) not in session.families:
        return None
    originator = attributes.originator
    if originator is None:
        node = state.nodes.get(source.mesh_node or "")
        if node is None:
            return None
        originator = router_id(node)
    attributes = _inside(attributes)
    return replace(
        best.path,
        path_id="",
        attributes=replace(
            attributes, originator=originator, clusters=(session.cluster_id, *attributes.clusters)
        ),
    )


def _transit(session: Session, path: Path) -> Path | None:
    """A learned path as the peer hears it: next hop ours unless kept (RFC 4271 section 5.1.3)."""
    family = family_of(path.prefix.network_address)
    if family not in session.families:
        return None
    hop: Address | None = (
        path.next_hop if session.next_hop_mode is NextHopMode.KEEP else session.next_hops.get(family)
    )
    if hop is None or hop == session.peer_address:
        return None
    attributes = path.attributes
    if NO_ADVERTISE in attributes.communities or (session.external and NO_EXPORT in attributes.communities):
        return None  # RFC 1997
    if not session.external:
        attributes = _inside(attributes)
    elif LLGR_STALE in attributes.communities:
        return None  # RFC 9494 section 4.3, to a peer of which no such capability can be known
    else:  # LOCAL_PREF and MED stay inside the AS (RFC 4271 sections 5.1.4, 5.1.5)
        communities = frozenset(filter(_crosses_borders, attributes.communities))
        attributes = replace(attributes, local_preference=None, med=None, communities=communities)
    return Path(path.prefix, hop, attributes)


def _inside(attributes: Attributes) -> Attributes:
    """What an iBGP peer hears of a path that is kept for a router long gone: the last choice there too, and
    no further than that (RFC 9494 section 4.6)."""
    if LLGR_STALE not in attributes.communities:
        return attributes
    return replace(attributes, communities=attributes.communities | {NO_EXPORT}, local_preference=0)


def _crosses_borders(community: AnyCommunity) -> bool:
    """A non-transitive community stays in the AS it was received in (RFC 4360 section 6)."""
    return not isinstance(community, ExtendedCommunity) or community.transitive


def _export(state: ClusterState, session: Session, path: Path, wanted: AdjRibOut) -> None:
    judgement, path = run_filters(state.filters, session, path, importing=False)
    if judgement.verdict is Verdict.ACCEPTED:
        wanted[path.prefix] = path
