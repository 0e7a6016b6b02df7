"""Which next hops of the kernel lead to those of BGP, as the underlay is now."""

from __future__ import annotations

from l3net.bgp.loc_rib import Candidate
from l3net.bgp.sessions import Session
from l3net.fib.underlay import Underlay
from l3net.model import Address, NextHop


def interface_to(underlay: Underlay, session: Session) -> str | None:
    """The link towards a peer; no route tells it for a link-local address."""
    if session.peer_address.is_link_local:
        return session.source_interface
    return underlay.interface_to(session.peer_address)


class Resolver:
    """Remembers its answers, since many paths share a next hop, until `follow` is given another underlay."""

    def __init__(self) -> None:
        self._underlay = Underlay((), ())
        self._known: dict[tuple[Address, Address], frozenset[NextHop]] = {}
        self._peer: Address | None = None
        self._hop: Address | None = None
        self._found: frozenset[NextHop] = frozenset()

    def follow(self, underlay: Underlay) -> None:
        self._underlay = underlay
        self._known.clear()
        self._peer = self._hop = None

    def resolve(self, candidate: Candidate) -> frozenset[NextHop]:
        """Empty when the next hop is unreachable."""
        peer, hop = candidate.session.peer_address, candidate.path.next_hop
        if hop is self._hop and peer is self._peer:  # as that of the path before, which spares two hashes
            return self._found
        found = self._known.get((peer, hop))
        if found is None:
            found = self._underlay.resolve(hop, interface_to(self._underlay, candidate.session))
            self._known[peer, hop] = found
        self._peer, self._hop, self._found = peer, hop, found
        return found
