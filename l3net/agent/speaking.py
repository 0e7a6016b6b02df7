"""The agent's BGP side: drives ExaBGP through the relay and keeps what the peers say in the Loc-RIB.

Rules that keep sessions and routes alive: nothing is announced before the declared state is complete; a
question to ExaBGP goes out alone, so that its answer is unmistakable; when the speaker is lost, learned
paths stay, marked stale, until the peers have said them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from l3net.agent.configuring import Configuring
from l3net.agent.dialogue import Dialogue
from l3net.agent.peers import Peers, Touched
from l3net.agent.shells import Speaker
from l3net.agent.supervising import kept_up
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.configuration import reset_by
from l3net.bgp.exabgp.messages import (
    Announced,
    Attempted,
    EndOfRib,
    Message,
    Neighbors,
    Notified,
    Opened,
    Queue,
    Queues,
    Refresh,
    ReplayBegan,
    ReplayEnded,
    StateChanged,
    Updated,
)
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Path
from l3net.bgp.peer_reasons import ECHO_LOST, LEFT
from l3net.bgp.peering import Peering
from l3net.bgp.sessions import Session
from l3net.faults import Faults
from l3net.model import Address, Family, Prefix
from l3net.notification import ADMINISTRATIVE_RESET, ADMINISTRATIVE_SHUTDOWN, BFD_DOWN, Notification

log = logging.getLogger("l3net.bgp")

#: Sessions are asked for again: ExaBGP says `down` in the first second of an established one.
ASK_EVERY = 10.0
ASK_AGAIN = 1.5
#: What waits to be sent is asked for this often while something does, in seconds.
ASK_QUEUES = 1.0
#: Sessions that are up at our start have been found by then, in seconds.
FOUND_BY = 15.0
#: A speaker of this release has given a sign of life by then, in seconds.
SIGN_OF_LIFE = 10.0
DRAIN_SECONDS = 3.0
DRAIN_FLUSH = 0.2
#: Prefixes that ExaBGP surely sends in a second, of those it has queued.
SENT_A_SECOND = 2000
#: Seconds for a NOTIFICATION to go out, and too few for ExaBGP to have the session up again.
FAREWELL = 0.1


class Speaking:
    """`touched` is called with the prefixes whose best paths may have changed."""

    def __init__(
        self,
        speaker: Speaker,
        rib: LocRib,
        touched: Touched,
        faults: Faults | None = None,
    ) -> None:
        self._faults = faults or Faults()
        self._rib = rib
        self._touched = touched
        self._announcer = Announcer()
        self._dialogue = Dialogue(speaker.connect, self._announcer, self._connected, self._heard, self._lost)
        self._sessions: dict[Address, Session] = {}
        self._configuring = Configuring(
            speaker.files,
            self._dialogue,
            lambda: self._wanted_sessions().values(),
            self._drain_leaving,
            self._say_farewell,
        )
        self.peers = Peers(rib, self._announcer, self._dialogue, touched, self._reconfigure, speaker.token)
        self._queues: Mapping[Address, Queue] = {}
        self._tells_queues = True  # until a speaker older than we are refuses to
        self._leaving: dict[Address, Session] = {}  # being withdrawn from, then removed
        self._decided = False  # until the sessions are known, ExaBGP's configuration is not touched
        self._started = _now()
        self._files = speaker.files
        self._heard_since: float | None = None  # the peers can speak: sessions known, speaker there
        self.parted = False  # no session is held, whatever is wanted
        self._farewells: dict[Address, Session] = {}
        #: Of peers at link-local addresses, by their OPENs; also those that an agent before us has learned.
        self.as_numbers = self._configuring.known_as_numbers()
        self._found_local = self._configuring.known_local_addresses()
        self.on_as_number: Callable[[], None] = lambda: None
        #: Called with each peer whose session is up, and whether it came up now.
        self.on_established: Callable[[Address, bool], None] = lambda _address, _fresh: None

    # --- what the loop asks for --------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """Why ExaBGP does not have the sessions of now; empty if it has."""
        return self._configuring.problem

    @property
    def refused(self) -> frozenset[Address]:
        """Peers whose configuration ExaBGP does not take."""
        return self._configuring.refused

    @property
    def connected(self) -> bool:
        return self._dialogue.up

    @property
    def unguarded(self) -> bool:
        """Whether sessions wait in a speaker older than we are, that does not hold who dials in to MD5 and
        GTSM: it leaves no sign of life (l3net.shell.relay)."""
        since = self._heard_since
        if since is None or _now() - since < SIGN_OF_LIFE:
            return False
        return any(session.listen for session in self._sessions.values()) and not self._files.alive()

    @property
    def undecodable(self) -> int:
        return self._dialogue.undecodable

    def set_sessions(self, sessions: Mapping[Address, Session]) -> None:
        """Take over the sessions of now. What leaves is withdrawn before its neighbour is removed."""
        self._decided = True
        self._look_at_clock()
        now = _now()
        for address in [gone for gone in self.peers if gone not in sessions]:
            if self._announcer.established(address):
                self._leaving[address] = self.peers[address].session
                self._announcer.want(address, {})
            self.peers.forget(address)
        self._leaving = {
            address: session for address, session in self._leaving.items() if address not in sessions
        }
        for address, session in sessions.items():
            if address in self.peers:
                peer = self.peers[address]
                peer.resetting = peer.resetting or reset_by(peer.session, session)
                raised = session.max_prefixes > peer.session.max_prefixes
                peer.session = session
                if raised and peer.over_limit:
                    self._import_again(address, peer.over_limit)
            else:
                reason = LEFT if self.parted else ""
                self.peers[address] = Peering(session, since=now, reason=reason, parted=self.parted)
        touched = self._rib.set_sessions(sessions)
        for peer in self.peers.values():
            self._note_limits(peer)
        self._announcer.set_sessions({**self._leaving, **sessions})
        self._sessions = dict(sessions)
        self._configuring.mark()
        if any(not peer.established for peer in self.peers.values()):
            self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours)
        if touched:
            self._touched(touched)

    def held_local(self, address: Address) -> Address | None:
        """The address that a session with a peer leaves from; at our start, that which an agent before us has
        told ExaBGP, until it is known whether the session is up."""
        peer = self.peers.get(address)
        if peer is not None and peer.established:
            return peer.session.local_address
        starting = _now() - self._started < FOUND_BY
        return self._found_local.get(address) if starting and (peer is None or not peer.flaps) else None

    def want(self, address: Address, wanted: AdjRibOut) -> None:
        self.peers.want(address, wanted)

    def wanted(self, address: Address) -> AdjRibOut:
        """What the peer shall hear; empty until that is decided."""
        return self.peers.wants.get(address, {})

    def amend(self, address: Address, prefixes: Iterable[Prefix], paths: AdjRibOut) -> None:
        """Of these prefixes the peer shall have `paths` and no other; the rest stays wanted as it is."""
        self.peers.amend(address, prefixes, paths)

    def compare(self) -> None:
        """Look again whether all that is wanted has been said: what ExaBGP refused was not."""
        self.peers.compare()

    def announced(self, address: Address) -> int:
        """Prefixes that have been sent to the peer, as far as ExaBGP tells."""
        if not self._announcer.established(address):
            return 0
        return max(0, self._announcer.announced(address) - self._queued(address))

    def out_queue(self, address: Address) -> int:
        """Prefixes that wait to be sent to the peer, here or in ExaBGP."""
        return self._announcer.waiting(address) + self._queued(address)

    def stuck(self, address: Address) -> float:
        """For how many seconds the peer has taken nothing of what waits for it."""
        queue = self._queues.get(address)
        return queue.stuck if queue is not None and self._announcer.established(address) else 0.0

    def _queued(self, address: Address) -> int:
        queue = self._queues.get(address)
        return queue.queued if queue is not None else 0

    def flush(self) -> None:
        """Send what the window allows."""
        self._dialogue.pump()

    def settled(self, grace: float) -> bool:
        """Whether every session has said all it has, or had `grace` seconds to do so since the sessions were
        known and the speaker was there: an outage of whatever length before that is no time to speak in.

        Until then a route in the kernel that no path accounts for may be one we have not heard again yet.
        """
        if not self._decided or not self._dialogue.up or self._heard_since is None:
            return False
        if _now() - self._heard_since > grace:
            return True
        return all(peer.established and not peer.awaiting for peer in self.peers.values())

    def _look_at_clock(self) -> None:
        if not (self._decided and self._dialogue.up):
            self._heard_since = None
        elif self._heard_since is None:
            self._heard_since = _now()

    def path_failed(self, address: Address, reason: str, shares_fate: bool) -> None:
        """BFD has lost the peer: its paths go at once, and then the session (RFC 5882 section 4.2).

        `shares_fate`: the peer's BFD dies with its BGP, so that its loss says nothing of the path while that
        restarts (section 4.3).
        """
        peer = self.peers.get(address)
        if peer is not None:
            self._touch(self.peers.do(address, peer.failed(_now(), reason, shares_fate=shares_fate)))

    def path_recovered(self, address: Address) -> None:
        """BFD has the peer back, or watches it no longer."""
        peer = self.peers.get(address)
        if peer is not None:
            peer.path_failed = False

    def path_held(self, address: Address, held: bool) -> None:
        """BFD's echo has failed, and a session would prove nothing: there is none until that is over."""
        peer = self.peers.get(address)
        if peer is not None:
            peer.echo_lost = held
            if held and peer.path_failed:
                peer.reason = ECHO_LOST
        self._reconfigure()

    async def flushed(self, limit: float) -> None:
        """Until what is wanted has been told to ExaBGP and had time to go out, at most `limit` seconds."""
        deadline = _now() + limit
        told = max((self._announcer.announced(address) for address in self.peers), default=0)
        while not (self._dialogue.up and self._announcer.idle and not self._dialogue.curious):
            if _now() > deadline:
                log.warning("the last withdrawals may not have gone out")
                return
            told = max(told, *(self._announcer.announced(address) for address in self.peers), 0)
            self._dialogue.pump()
            await asyncio.sleep(0.05)
        # ExaBGP answers when a line is queued, not when it is sent
        await asyncio.sleep(DRAIN_FLUSH + told / SENT_A_SECOND)

    def part(self, parted: bool) -> None:
        """Hold no session from now on, or those wanted again. What was announced is withdrawn by then.

        What the peers announced is kept as when they restart.
        """
        if parted is self.parted:
            return
        self.parted = parted
        touched: set[Prefix] = set()
        for address, peer in self.peers.items():
            if parted and peer.established:
                self._farewells[address] = peer.session
            touched |= self.peers.do(address, peer.part(_now(), parted))
        self._reconfigure()
        self._touch(touched)

    async def closed(self, limit: float) -> None:
        """After `part`: until ExaBGP has no sessions, at most `limit` seconds."""
        await self._configuring.in_force(limit)

    async def _say_farewell(self) -> None:
        """Cease, Administrative Shutdown (RFC 4486), just before the neighbours go: ExaBGP removes one
        without a word, and dials again after a teardown."""
        sessions, self._farewells = self._farewells, {}
        for address in sessions:
            self._dialogue.ask(commands.teardown(address, ADMINISTRATIVE_SHUTDOWN))
        if sessions:
            await asyncio.sleep(FAREWELL)

    def heard_all(self, addresses: Iterable[Address]) -> bool:
        """Whether these peers are established and have said all they have."""
        peers = [self.peers.get(address) for address in addresses]
        return all(peer is not None and peer.established and not peer.awaiting for peer in peers)

    async def run(self) -> None:
        """Runs until cancelled."""
        parts = {
            "speaker": self._dialogue.run,
            "ExaBGP's configuration": self._configuring.run,
            "sessions": self._keep_asking,
        }
        await asyncio.gather(*(kept_up(part, run, self._faults) for part, run in parts.items()))

    # --- configuration -----------------------------------------------------------------------------------

    def _reconfigure(self) -> None:
        if self._decided:
            self._configuring.mark()

    async def _drain_leaving(self) -> None:
        """Withdraw before a neighbour is removed.

        ExaBGP sends no NOTIFICATION then, so that graceful restart would keep the routes at the far side.
        """
        deadline = _now() + DRAIN_SECONDS
        while self._leaving and self._dialogue.up and _now() < deadline:
            self._dialogue.pump()
            if self._announcer.idle:
                await asyncio.sleep(DRAIN_FLUSH)  # ExaBGP answers when a line is queued, not when it is sent
                break
            await asyncio.sleep(0.05)
        if self._leaving:
            self._leaving.clear()
            self._announcer.set_sessions(self._sessions)

    def _wanted_sessions(self) -> dict[Address, Session]:
        """The sessions ExaBGP shall have now: all but those held down; none on a node that has left."""
        if self.parted:
            return {}
        now = _now()
        return {
            address: session
            for address, session in self._sessions.items()
            if address not in self.peers or not self.peers[address].held(now)
        }

    # --- the connection ----------------------------------------------------------------------------------

    def _connected(self) -> None:
        log.info("connected to the speaker")
        self._tells_queues = True
        self._look_at_clock()
        self._dialogue.ask(commands.SHOW_ADJ_RIB_OUT, self._learn_announced)
        self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours)
        asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_neighbours)
        self._reconfigure()

    def _ask_neighbours(self) -> None:
        self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours)

    def _lost(self) -> None:
        log.warning("lost the speaker; learned routes stay while it restarts")
        self._heard_since = None
        self._queues = {}
        for address, peer in self.peers.items():
            self._touch(self.peers.do(address, peer.speaker_lost(_now())))

    async def _keep_asking(self) -> None:
        asked = 0.0
        while True:
            await asyncio.sleep(ASK_QUEUES)
            if not self._dialogue.up or self._dialogue.curious:
                continue
            due = _now() - asked >= ASK_EVERY
            if due:
                asked = _now()
                self._ask_neighbours()
            if self._tells_queues and (due or self._announcer.moved or self._waits):
                self._announcer.moved = False
                self._dialogue.ask(commands.SHOW_QUEUES, self._learn_queues, self._learn_no_queues)

    @property
    def _waits(self) -> bool:
        return any(queue.queued or queue.stuck for queue in self._queues.values())

    def _learn_queues(self, answers: list[Message]) -> None:
        for answer in answers:
            if isinstance(answer, Queues):
                self._queues = answer.peers

    def _learn_no_queues(self) -> None:
        self._tells_queues = False

    def _heard(self, messages: list[Message]) -> None:
        touched: set[Prefix] = set()
        for message in messages:
            try:
                touched |= self._handle(message)
            except Exception as err:  # of one message: the others are heard
                self._faults.note(f"speaker: {type(message).__name__}", err, lasting=False)
        self._touch(touched)

    def _touch(self, touched: set[Prefix]) -> None:
        if touched:
            self._touched(touched)

    # --- messages ----------------------------------------------------------------------------------------

    def _handle(self, message: Message) -> set[Prefix]:
        if self._dialogue.took(message):
            return set()
        match message:
            case ReplayBegan() | ReplayEnded():
                if isinstance(message, ReplayBegan) and message.peer in self.peers:
                    self._learn_as_number(message.opened)
                return self.peers.replayed(message)
            case Updated(peer=address):
                return self._learn(message, self.peers.get(address))
            case (
                StateChanged(peer=address)
                | Opened(peer=address)
                | Notified(peer=address)
                | Attempted(peer=address)
                | EndOfRib(peer=address)
                | Refresh(peer=address)
            ) if address in self.peers:
                return self._of_peer(self.peers[address], message)
            case _:
                return set()

    def _of_peer(self, peer: Peering, message: Message) -> set[Prefix]:
        address, now = peer.session.peer_address, _now()
        match message:
            case StateChanged(state="up"):
                return self._up(address, peer, fresh=True)
            case StateChanged(state="connected"):
                return self.peers.do(address, peer.connected(now))
            case StateChanged(state="down", reason=reason):
                return self.peers.do(address, peer.went_down(now, reason))
            case Opened():
                peer.opened = message
                self._learn_as_number(message)
            case Notified(code=code, subcode=subcode, received=received, text=text):
                notification = Notification(code, subcode, received)
                return self.peers.do(address, peer.was_notified(now, notification, text))
            case Attempted(outgoing=outgoing, error=error):
                return self.peers.do(address, peer.attempted(now, error, outgoing=outgoing))
            case EndOfRib(family=family):
                return self.peers.do(address, peer.end_of_rib(now, family))
            case Refresh(family=family, subtype="begin"):
                return self.peers.do(address, peer.refresh_began(family))
            case Refresh(family=family, subtype="end"):
                return self.peers.do(address, peer.refresh_ended(family))
            case _:
                pass
        return set()

    def _up(self, address: Address, peer: Peering, *, fresh: bool) -> set[Prefix]:
        touched = self.peers.do(address, peer.came_up(_now(), fresh=fresh))
        if peer.established:
            self.on_established(address, fresh)
        return touched

    def _learn_as_number(self, opened: Opened) -> None:
        """Of a peer of whatever AS: it is expected to be of this one from now on."""
        session = self.peers[opened.peer].session
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
        if not peer.path_failed:  # else it was said before the path failed
            touched |= self._rib.announce(address, _agreed_on(peer, update.announced))
            peer.updated(_now())
        self._note_limits(peer)
        if peer.over_limit and (update.withdrawn or update.withdrawn_paths):
            self._import_again(address, self._rib.has_room_again(address))
        return touched

    def _note_limits(self, peer: Peering) -> None:
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

    def _import_again(self, address: Address, families: Iterable[Family]) -> None:
        """There is room under the prefix limit again: have what was turned away told again."""
        peer, again = self.peers[address], list(families)
        for family in again:
            log.info("peer %s: taking IPv%d routes again", address, family.value)
            peer.over_limit.discard(family)
        if again and peer.established:
            self.peers.ask_received(address)

    def _learn_announced(self, answers: list[Message]) -> None:
        for answer in answers:
            if isinstance(answer, Announced):
                self._announcer.holds(answer.peer, [answer.prefix])

    def _learn_neighbours(self, answers: list[Message]) -> None:
        for answer in answers:
            if not isinstance(answer, Neighbors):
                continue
            if self._decided and not self._leaving:
                self._configuring.compare(answer.loaded)
            for address, established in answer.established.items():
                peer = self.peers.get(address)
                if peer is not None and established and not self.parted:
                    self._found_up(address, peer, answer.opened.get(address, peer.opened))

    def _found_up(self, address: Address, peer: Peering, opened: Opened | None) -> None:
        """A session of which we may not know: established before we came. The speaker tells what its peer has
        offered and said; one older than we are does not."""
        if peer.established or peer.closing:
            return
        if peer.path_failed:  # the failure came before we knew of the session
            self._touch(self.peers.do(address, peer.close(_now(), BFD_DOWN)))
            return
        peer.opened = opened
        if not self._knows_next_hops(peer):
            self._touch(self.peers.do(address, peer.close(_now(), ADMINISTRATIVE_RESET)))
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


def _agreed_on(peer: Peering, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Without families that the session is to carry and the peer has not offered (RFC 4760 section 8)."""
    missing = peer.families - peer.negotiated
    if not missing:
        return paths
    versions = {family.value for family in missing}
    kept = tuple(path for path in paths if path.prefix.version not in versions)
    if len(kept) < len(paths) and not peer.unagreed:
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
