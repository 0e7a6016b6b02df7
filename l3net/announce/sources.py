"""The list of sources, and what each peer hears of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from l3net.announce.blocks import BLOCKS
from l3net.announce.egress import EGRESS
from l3net.announce.floating import FLOATING
from l3net.announce.networks import NETWORKS
from l3net.announce.services import SERVICES
from l3net.announce.source import Announcement, NodeView, Source
from l3net.bgp.adj_rib_out import AdjRibOut, adj_rib_out, export_verdict
from l3net.bgp.drain import Stage
from l3net.bgp.loc_rib import Candidate
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Export
from l3net.model import Prefix

#: Adding a kind of announcement is a module and a row.
SOURCES: Final[tuple[Source, ...]] = (BLOCKS, NETWORKS, SERVICES, FLOATING, EGRESS)


def follow_services() -> bool:
    """Whether more than the services' own addresses follows from them."""
    return any(source.of_services for source in SOURCES)


def prefixes_for(session: Session, view: NodeView) -> Collection[Prefix]:
    """What this node announces of its own to a peer, before export filters; each once."""
    found: dict[Prefix, None] = {}  # in order: that of a set is one of memory looked up here and there
    for source in SOURCES:
        if source.mesh or not session.mesh:
            found.update(dict.fromkeys(source.prefixes(view)))
    return found


def desired(
    view: NodeView,
    session: Session,
    learned: Mapping[Prefix, Candidate] | None = None,
    drain: Stage = Stage.NONE,
    only: Collection[Prefix] | None = None,
) -> AdjRibOut:
    """The paths for one peer: see `adj_rib_out`. `only`: to none but these."""
    prefixes = prefixes_for(session, view)
    if only is not None:
        prefixes = [prefix for prefix in prefixes if prefix in only]
    return adj_rib_out(view.state, session, prefixes, learned, drain)


def reasons(view: NodeView) -> Iterator[tuple[Source, Announcement]]:
    """Everything that could be announced."""
    return ((source, each) for source in SOURCES for each in source.reasons(view))


def verdict(
    view: NodeView, session: Session, source: Source, prefix: Prefix, drain: Stage
) -> tuple[Export, str]:
    """Whether `desired` has a prefix of a source for a peer, why not, and the name of the filter if one says
    so."""
    return export_verdict(view.state, session, prefix, drain, mesh=source.mesh)
