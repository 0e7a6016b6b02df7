"""Which sessions the node holds: those of the declared state, and for a while those of an older topology."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from l3net.agent.routing import Routing
from l3net.agent.speaker.parting import Parting
from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import Protected
from l3net.bgp.sessions import OnLink, Sessions, guarded, sessions, unnumbered_interfaces
from l3net.model import Address, ClusterState
from l3net.naming import BRIDGE
from l3net.ports import Discovery

log = logging.getLogger("l3net.agent")


class HeldSessions:
    """`look_again` is called when time alone changes them. `guarded`: our ExaBGP may listen."""

    def __init__(
        self,
        me: str,
        speaking: Speaking,
        routing: Routing,
        discovery: Discovery,
        look_again: Callable[[], None],
        *,
        guarded: bool,
    ) -> None:
        self._me = me
        self._speaking = speaking
        self._routing = routing
        self._discovery = discovery
        self._look_again = look_again
        self._guarded = guarded
        self._parting = Parting()
        self._wanted_peers: frozenset[Address] = frozenset()
        self._judged_by: object = None
        self.now = Sessions({}, ())

    def of(self, state: ClusterState) -> Sessions:
        """The sessions that a declared state gives this node, with its links and routes as they are now."""
        underlay = self._routing.underlay
        interfaces = unnumbered_interfaces(state, self._me) | {
            peer.source_interface for peer in state.peers.values() if peer.source_interface is not None
        }
        learned = self._speaking.hearing.as_numbers
        links = {
            name: OnLink(underlay.link_local(name), self._discovery.routers(name), learned)
            for name in interfaces
        }
        own = underlay.own_addresses() or None  # none at all: they have not been read yet
        node = state.nodes.get(self._me)
        preferred = node.addresses if node is not None else ()

        def source(address: Address) -> tuple[Address, tuple[Address, ...]] | None:
            return underlay.source(address, preferred, self._speaking.held_local(address))

        found = sessions(state, self._me, source, underlay.gateways(), links, own)
        return found if self._guarded else guarded(found)

    def protected(self, state: ClusterState) -> Protected:
        """What no peer may take from this node under a declared state, with its links as they are now."""
        underlay = self._routing.underlay
        return Protected.of(state, self._me, underlay.connected(BRIDGE), underlay.own_addresses())

    def decide(self, state: ClusterState) -> ImportJudge | None:
        """The sessions of now; the judge of what their peers say, None if it is the one there was."""
        self._discovery.watch(unnumbered_interfaces(state, self._me))
        self.now = self._with_parting(state, self.of(state))
        protected = self.protected(state)
        judged_by = (protected, dict(state.filters), dict(self.now.by_address))
        if judged_by == self._judged_by:
            return None
        self._judged_by = judged_by
        return ImportJudge(protected, state.filters)

    def _with_parting(self, state: ClusterState, found: Sessions) -> Sessions:
        """Sessions of an older topology stay until the new ones have taken over."""
        loop = asyncio.get_running_loop()
        now, waiting = loop.time(), self._parting.pending
        held = self._parting.merge(found.by_address, self.now.by_address, frozenset(state.nodes), now)
        if self._parting.pending and not waiting:
            log.info("keeping %d old sessions until the new ones converge", len(held) - len(found.by_address))
            loop.call_later(1.0, self._check_parting)
        until = self._parting.reflected_until()
        if until is not None:
            loop.call_later(max(0.1, until - now + 0.1), self._look_again)
        self._wanted_peers = frozenset(found.by_address)
        return Sessions(held, found.refusals)

    def _check_parting(self) -> None:
        loop = asyncio.get_running_loop()
        if self._parting.finished(self._speaking.heard_all(self._wanted_peers), loop.time()):
            self._look_again()
        elif self._parting.pending:
            loop.call_later(1.0, self._check_parting)
