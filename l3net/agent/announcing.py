"""Tells each peer what the list of announcement sources has for it (l3net.announce), and no peer pays for
another."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

from l3net.agent.egress import Egress
from l3net.agent.floating import Floating
from l3net.agent.routing import Routing
from l3net.agent.speaker.speaking import Speaking
from l3net.agent.supervising import Retry
from l3net.announce.source import NodeView
from l3net.announce.sources import desired, follow_services
from l3net.bgp.adj_rib_out import passes_on
from l3net.bgp.drain import Stage
from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.sessions import Session
from l3net.faults import Faults
from l3net.model import Address, ClusterState, Prefix
from l3net.services.book import ServiceBook

log = logging.getLogger("l3net.agent")

#: The part of the agent that tells one peer.
ANNOUNCING = "announcements to "


class Announcing:
    """`retry` has a pass tell again what has failed."""

    def __init__(
        self,
        me: str,
        speaking: Speaking,
        routing: Routing,
        rib: LocRib,
        book: ServiceBook,
        floating: Floating,
        egress: Egress,
        faults: Faults,
        retry: Retry,
    ) -> None:
        self._me = me
        self._speaking = speaking
        self._routing = routing
        self._rib = rib
        self._book = book
        self._floating, self._egress = floating, egress
        self._faults = faults
        self._retry = retry
        self.sessions: Mapping[Address, Session] = {}
        self.stage: Callable[[], Stage] = lambda: Stage.NONE

    def follow(self, sessions: Mapping[Address, Session]) -> None:
        """Take over the sessions of now."""
        self.sessions = sessions
        parts = {_part(session) for session in sessions.values()}
        self._faults.only(ANNOUNCING, parts)
        self._retry.only(ANNOUNCING, parts)

    def view(self, state: ClusterState, later: frozenset[Prefix] = frozenset()) -> NodeView:
        """What the sources see of this node now; of services without those that are served only `later`."""
        floating, egress = self._floating, self._egress
        services = self._book.announced_but(later)
        return NodeView(
            *(state, self._me, services, self._book.verdicts),
            *(floating.announced, floating.holdings, egress.announced, egress.holdings),
        )

    def passes_on(self, state: ClusterState) -> bool:
        """Whether this node announces what it learned."""
        return passes_on(state, self.sessions.values())

    def announce(self, state: ClusterState, later: frozenset[Prefix] = frozenset()) -> None:
        """To each peer, all of it, but for what services have `later`."""
        learned: dict[Prefix, Candidate] = {}
        if self.passes_on(state):
            for prefix in self._rib.prefixes():
                best = self._routing.best(prefix)
                if best:
                    learned[prefix] = best[0]
        # What an agent before us has passed on is not withdrawn before it is known who still says it.
        unheard = self.passes_on(state) and self._speaking.peers.catching_up
        view = self.view(state, later)
        for address, session in self.sessions.items():
            if unheard and address not in self._speaking.peers.wants:
                continue  # `Peers.caught_up` has all looked at again
            with self._for_peer(session):
                self._speaking.want(address, desired(view, session, learned, self.stage()))

    def announce_changes(
        self,
        state: ClusterState,
        changed: frozenset[Prefix],
        wanted: frozenset[Prefix] = frozenset(),
        later: frozenset[Prefix] = frozenset(),
    ) -> None:
        """Services, floating and egress addresses alone have changed: of each peer's Adj-RIB-Out, only their
        prefixes. What is not served yet comes `later`, also where all is looked at."""
        if not changed:
            return
        # Another's path may take the place of ours, or another source look at the services.
        if self.passes_on(state) or follow_services():
            self.announce(state, later)
            return
        view = NodeView(
            *(state, self._me, wanted),
            floating_prefixes=self._floating.announced & changed,
            egress_prefixes=self._egress.announced & changed,
        )
        for address, session in self.sessions.items():
            with self._for_peer(session):
                paths = desired(view, session, drain=self.stage(), only=changed)
                self._speaking.amend(address, changed, paths)

    @contextlib.contextmanager
    def _for_peer(self, session: Session) -> Iterator[None]:
        """What fails for one peer is tried again, and costs no other its announcements."""
        part = _part(session)
        try:
            yield
        except Exception as err:
            self._faults.note(part, err)
            self._retry.failed(part)
        else:
            self._faults.over(part)
            self._retry.succeeded(part)


def _part(session: Session) -> str:
    """Two sessions may have one name, one in each family."""
    return f"{ANNOUNCING}{session.name} ({session.peer_address})"
