"""Which next hops of the kernel lead to those of BGP, as the underlay is now."""

from __future__ import annotations

from collections.abc import Mapping

from l3net.bgp.loc_rib import Candidate
from l3net.bgp.sessions import Session
from l3net.fib.underlay import Underlay
from l3net.model import Address, NextHop

#: All of a session that decides what becomes of a path that policy accepts.
_Rule = tuple[bool, str | None, bool]


def of_one_link(address: Address) -> bool:
    """Whether an address means something on one link alone (RFC 4291 section 2.5.6). Of IPv4's link-local
    ones routes tell the link."""
    return address.version == 6 and address.is_link_local


def interface_to(underlay: Underlay, session: Session) -> str | None:
    """The link towards a peer; no route tells it for a link-local address."""
    if of_one_link(session.peer_address):
        return session.source_interface
    return underlay.interface_to(session.peer_address)


def off_link(underlay: Underlay, session: Session) -> bool:
    """Whether a peer that has to be on a link of this node is on none, whatever the state of its links."""
    peer = session.peer_address
    return (
        session.connected
        and not of_one_link(peer)
        and not underlay.links_of(peer)
        and not any(entry.holds(peer) for entry in underlay.addresses)
    )


def _rule(session: Session) -> _Rule:
    return session.connected, session.source_interface, session.allow_blackhole


class Resolver:
    """Remembers its answers, since many paths share a next hop, until `follow` is given another underlay."""

    def __init__(self) -> None:
        self._underlay = Underlay((), ())
        self._rules: dict[Address, _Rule] = {}
        self._known: dict[tuple[Address, Address], frozenset[NextHop]] = {}
        self._peer: Address | None = None
        self._hop: Address | None = None
        self._found: frozenset[NextHop] = frozenset()

    def follow(self, underlay: Underlay) -> None:
        self._underlay = underlay
        self._forget()

    def set_sessions(self, sessions: Mapping[Address, Session]) -> set[Address]:
        """Take over the sessions of now; the peers of whose paths something else may become by that."""
        rules = {address: _rule(session) for address, session in sessions.items()}
        changed = {peer for peer, rule in rules.items() if self._rules.get(peer, rule) != rule}
        self._rules = rules
        if changed:
            self._forget()
        return changed

    def _forget(self) -> None:
        self._known.clear()
        self._peer = self._hop = None

    def resolve(self, candidate: Candidate) -> frozenset[NextHop]:
        """Empty when the next hop is unreachable."""
        session, hop = candidate.session, candidate.path.next_hop
        peer = session.peer_address
        if hop is self._hop and peer is self._peer:  # as that of the path before, which spares two hashes
            return self._found
        found = self._known.get((peer, hop))
        if found is None:
            found = self._resolve(session, hop)
            self._known[peer, hop] = found
        self._peer, self._hop, self._found = peer, hop, found
        return found

    def _resolve(self, session: Session, hop: Address) -> frozenset[NextHop]:
        """That of a connected eBGP peer is on the link that it is itself on (RFC 4271 section 5.1.3, 2), and
        unreachable with that link: resolved over another route, even a default one, packets would go to
        whoever is there. Any other is looked up in all routes that are not ours."""
        underlay, peer = self._underlay, session.peer_address
        if not session.connected:
            return underlay.resolve(hop, interface_to(underlay, session))
        bound = session.source_interface
        links = underlay.links_of(peer) if not of_one_link(peer) else frozenset({bound} if bound else ())
        if bound is not None:
            links &= {bound}
        if of_one_link(hop):
            return frozenset().union(*(underlay.resolve(hop, link) for link in links))
        return underlay.on_link(hop, links)
