"""Hears what ExaBGP and, through it, the peers say, one message after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from l3net.agent.speaker.dialogue import Dialogue
from l3net.agent.speaker.peers import Peers, Touched
from l3net.bgp.events import Attempted, EndOfRib, Notified, Opened, Refresh, StateChanged, Updated
from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.messages import Announced, Message, Neighbors, ReplayBegan, ReplayEnded
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Said
from l3net.bgp.peering import Peering
from l3net.faults import Faults
from l3net.model import Address, Family, Prefix
from l3net.notification import ADMINISTRATIVE_RESET, BFD_DOWN, Notification

log = logging.getLogger("l3net.bgp")


class Hearing:
    """`touched` is called with the prefixes whose best paths may have changed."""

    def __init__(
        self,
        peers: Peers,
        rib: LocRib,
        announcer: Announcer,
        dialogue: Dialogue,
        touched: Touched,
        faults: Faults,
        as_numbers: dict[Address, int],
    ) -> None:
        self._peers = peers
        self._rib = rib
        self._announcer = announcer
        self._dialogue = dialogue
        self._touched = touched
        self._faults = faults
        #: Of peers at link-local addresses, by their OPENs; also those that an agent before us has learned.
        self.as_numbers = as_numbers
        self.on_as_number: Callable[[], None] = lambda: None
        #: Called with each peer whose session is up, and whether it came up now.
        self.on_established: Callable[[Address, bool], None] = lambda _address, _fresh: None

    def heard(self, messages: list[Message]) -> None:
        """What came in one go."""
        touched: set[Prefix] = set()
        for message in messages:
            try:
                touched |= self.handle(message)
            except Exception as err:  # of one message: the others are heard
                self._faults.note(f"speaker: {type(message).__name__}", err, lasting=False)
        self._touch(touched)

    def _touch(self, touched: set[Prefix]) -> None:
        if touched:
            self._touched(touched)

    # --- messages ----------------------------------------------------------------------------------------

    def handle(self, message: Message) -> set[Prefix]:
        """One message; the prefixes whose best paths may have changed."""
        if self._dialogue.took(message):
            return set()
        match message:
            case ReplayBegan() | ReplayEnded():
                if isinstance(message, ReplayBegan) and message.peer in self._peers:
                    self._learn_as_number(message.opened)
                return self._peers.replayed(message)
            case Updated(peer=address):
                return self._learn(message, self._peers.get(address))
            case (
                StateChanged(peer=address)
                | Opened(peer=address)
                | Notified(peer=address)
                | Attempted(peer=address)
                | EndOfRib(peer=address)
                | Refresh(peer=address)
            ) if address in self._peers:
                return self._of_peer(self._peers[address], message)
            case _:
                return set()

    def _of_peer(self, peer: Peering, message: Message) -> set[Prefix]:
        address, now = peer.session.peer_address, _now()
        match message:
            case StateChanged(state="up"):
                return self._up(address, peer, fresh=True)
            case StateChanged(state="connected"):
                return self._peers.do(address, peer.connected(now))
            case StateChanged(state="down", reason=reason):
                return self._peers.do(address, peer.went_down(now, reason))
            case Opened():
                peer.opened = message
                self._learn_as_number(message)
            case Notified(code=code, subcode=subcode, received=received, text=text):
                notification = Notification(code, subcode, received)
                return self._peers.do(address, peer.was_notified(now, notification, text))
            case Attempted(outgoing=outgoing, error=error):
                return self._peers.do(address, peer.attempted(now, error, outgoing=outgoing))
            case EndOfRib(family=family):
                return self._peers.do(address, peer.end_of_rib(now, family))
            case Refresh(family=family, subtype="begin"):
                return self._peers.do(address, peer.refresh_began(family))
            case Refresh(family=family, subtype="end"):
                return self._peers.do(address, peer.refresh_ended(family))
            case _:
                pass
        return set()

    def _up(self, address: Address, peer: Peering, *, fresh: bool) -> set[Prefix]:
        touched = self._peers.do(address, peer.came_up(_now(), fresh=fresh))
        if peer.established:
            self.on_established(address, fresh)
        return touched

    def _learn_as_number(self, opened: Opened) -> None:
        """Of a peer of whatever AS: it is expected to be of this one from now on."""
        session = self._peers[opened.peer].session
        known = (0, session.peer_as, self.as_numbers.get(opened.peer))
        if session.any_as and opened.as_number not in known:
            log.info("peer %s (%s): learned AS %d from OPEN", opened.peer, session.name, opened.as_number)
            self.as_numbers[opened.peer] = opened.as_number
            self.on_as_number()

    def _learn(self, update: Updated, peer: Peering | None) -> set[Prefix]:
        address = update.peer
        touched = self._rib.withdraw(address, update.withdrawn)
        for prefix, path_id in update.withdrawn_paths:
            touched |= self._rib.withdraw(address, [prefix], path_id)
        if peer is None:
            return touched
        if not (peer.path_failed or peer.closing):  # else it is of a session that ends
            for said in _agreed_on(peer, update.said):
                touched |= self._rib.learn(address, said)
            peer.updated(_now())
        self.note_limits(peer)
        if peer.over_limit and (update.withdrawn or update.withdrawn_paths):
            self.import_again(address, self._rib.has_room_again(address))
        return touched

    def note_limits(self, peer: Peering) -> None:
        """Which families are over the limit on prefixes."""
        address = peer.session.peer_address
        for family in Family:
            if self._rib.over_limit(address, family) and family not in peer.over_limit:
                peer.over_limit.add(family)
                log.error(
                    "peer %s (%s): more than %d IPv%d prefixes; nothing more is imported from it",
                    address,
                    peer.session.name,
                    peer.session.max_prefixes,
                    family.value,
                )

    def import_again(self, address: Address, families: Iterable[Family]) -> None:
        """There is room under the prefix limit again: have what was turned away told again."""
        peer, again = self._peers[address], list(families)
        for family in again:
            log.info("peer %s: taking IPv%d routes again", address, family.value)
            peer.over_limit.discard(family)
        if again and peer.established:
            self._peers.ask_received(address)

    def learn_announced(self, answers: list[Message]) -> None:
        """What ExaBGP holds for each peer."""
        for answer in answers:
            if isinstance(answer, Announced):
                self._announcer.holds(answer.peer, [answer.prefix])

    def found(self, neighbors: Neighbors, but: frozenset[Address] = frozenset()) -> None:
        """Which sessions are up, as ExaBGP says when it is asked. `but`: those that it is about to end; what
        were announced on one would stay at the peer as if we restarted (RFC 4724)."""
        for address, established in neighbors.established.items():
            peer = self._peers.get(address)
            if peer is not None and established and address not in but:
                self._found_up(address, peer, neighbors.opened.get(address, peer.opened))
        self._peers.found()

    def _found_up(self, address: Address, peer: Peering, opened: Opened | None) -> None:
        """A session of which we may not know: established before we came. The speaker tells what its peer has
        offered and said; one older than we are does not."""
        if peer.established or peer.closing:
            return
        if peer.path_failed:  # the failure came before we knew of the session
            self._touch(self._peers.do(address, peer.close(_now(), BFD_DOWN)))
            return
        peer.opened = opened
        if not self._knows_next_hops(peer):
            self._touch(self._peers.do(address, peer.close(_now(), ADMINISTRATIVE_RESET)))
            return
        self._touch(self._up(address, peer, fresh=False))

    def _knows_next_hops(self, peer: Peering) -> bool:
        """Whether it is known if a peer whose OPEN we have missed takes IPv6 next hops for IPv4 prefixes.

        What an agent before us has announced, the peer could read. If nothing was announced at all, only
        a new session tells.
        """
        if not peer.session.extended_next_hop or peer.opened is None:
            return True
        if peer.opened.extended_next_hops is None:
            address = peer.session.peer_address
            if not any(self._announcer.holds_version(address, version) for version in (4, 6)):
                return False
            told = self._announcer.holds_version(address, 4)
            peer.opened = replace(peer.opened, extended_next_hops=told)
        return True


def _agreed_on(peer: Peering, told: tuple[Said, ...]) -> tuple[Said, ...]:
    """Without families that the session is to carry and the peer has not offered (RFC 4760 section 8)."""
    missing = peer.families - peer.negotiated
    if not missing:
        return told
    versions = {family.value for family in missing}
    kept = tuple(said for said in told if said.prefixes[0].version not in versions)
    if len(kept) < len(told) and not peer.unagreed:
        peer.unagreed = True
        names = ", ".join(sorted(f"IPv{version}" for version in versions))
        log.warning(
            "peer %s (%s): announces what it has not offered (%s); it is not used",
            peer.session.peer_address,
            peer.session.name,
            names,
        )
    return kept


def _now() -> float:
    return asyncio.get_running_loop().time()
