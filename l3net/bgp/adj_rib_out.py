"""What each peer shall hear from this node: the Adj-RIB-Out as the declared state wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from l3net.bgp.path import Attributes, Path
from l3net.bgp.policy import NO_ADVERTISE, NO_EXPORT, contains, run_filters
from l3net.bgp.sessions import Session, family_of
from l3net.bgp.verdict import Verdict
from l3net.model import Address, ClusterState, IpPool, NextHopMode, Prefix

AdjRibOut = dict[Prefix, Path]


def own_blocks(state: ClusterState, me: str) -> tuple[Prefix, ...]:
    """The node's blocks that may be announced: not those of a pool with `advertise: false`."""
    node = state.nodes.get(me)
    if node is None or not state.configuration.advertise.pod_blocks:
        return ()
    silent = [pool for pool in state.pools.values() if not pool.advertise]
    return tuple(block for block in node.blocks if not _in_any(silent, block))


def _in_any(pools: list[IpPool], block: Prefix) -> bool:
    return any(contains(pool.cidr, block) for pool in pools)


def desired_adj_rib_out(
    state: ClusterState,
    me: str,
    session: Session,
    service_prefixes: Iterable[Prefix],
    learned: Mapping[Prefix, Path] | None = None,
) -> AdjRibOut:
    """The paths for one peer, after export filters.

    The mesh hears blocks and networks; service addresses go to explicit peers only, since every node serves
    them itself. `learned` are best paths to pass on, on a router with `transit: true` alone: a node never
    re-announces what it learned (projectcalico/calico#3810).
    """
    configuration = state.configuration
    attributes = Attributes(communities=configuration.advertise.communities)
    prefixes: set[Prefix] = {*own_blocks(state, me), *configuration.advertise.networks}
    if not session.mesh:
        prefixes.update(service_prefixes)
    wanted: AdjRibOut = {}
    for prefix in prefixes:
        hop = session.next_hops.get(family_of(prefix.network_address))
        if hop is not None and family_of(prefix.network_address) in session.families:
            _export(state, session, Path(prefix, hop, attributes), wanted)
    if configuration.transit and learned:
        for prefix, path in learned.items():
            if prefix in wanted or session.peer_as in path.attributes.as_path:
                continue
            passed_on = _transit(session, path)
            if passed_on is not None:
                _export(state, session, passed_on, wanted)
    return wanted


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
    if session.external:  # LOCAL_PREF and MED stay inside the AS (RFC 4271 sections 5.1.4, 5.1.5)
        attributes = replace(attributes, local_preference=None, med=None)
    return Path(path.prefix, hop, attributes)


def _export(state: ClusterState, session: Session, path: Path, wanted: AdjRibOut) -> None:
    judgement, path = run_filters(state.filters, session, path, importing=False)
    if judgement.verdict is Verdict.ACCEPTED:
        wanted[path.prefix] = path
