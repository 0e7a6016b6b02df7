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
from pathlib import Path as FilePath

from l3net.agent.configuring import Configuring
from l3net.agent.dialogue import Dialogue
from l3net.agent.peers import PeerState
from l3net.agent.supervising import kept_up
from l3net.bgp import commands
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.announcer import Announcer
from l3net.bgp.exabgp_config import neighbor
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.messages import (
    Announced,
    EndOfRib,
    Message,
    Neighbors,
    Notified,
    Opened,
    Refresh,
    StateChanged,
    Updated,
)
from l3net.bgp.sessions import Session
from l3net.model import Address, Family, Prefix
from l3net.naming import SPEAKER_SOCKET
from l3net.notification import Notification
from l3net.shell.faults import Faults
from l3net.shell.relay import ALIVE_SUFFIX

log = logging.getLogger("l3net.bgp")

#: FRR 8.4 may send End-of-RIB about a second before its routes (coalesce-time): sweep later than that.
SWEEP_DELAY = 5.0
#: A refresh that the peer does not demarcate (RFC 7313) is over when it has been quiet this long. It costs
#: nothing to wait: until then routes that nobody has spoken of yet simply stay.
REFRESH_QUIET = 15.0
#: Sessions are asked for again: ExaBGP says `down` in the first second of an established one.
ASK_EVERY = 10.0
ASK_AGAIN = 1.5
#: Sessions that are up at our start have been found by then, in seconds.
FOUND_BY = 15.0
#: A speaker of this release has given a sign of life by then, in seconds.
SIGN_OF_LIFE = 10.0
DRAIN_SECONDS = 3.0
DRAIN_FLUSH = 0.2
#: Seconds a session that flaps has to hold before anything is announced to it. What ExaBGP has queued for
#: a session that is down makes it put off every reload, also the one that holds the session down.
STEADY = 1.0
#: A session that we tear down is gone by then, in seconds.
CLOSE_LIMIT = 5.0
#: Prefixes that ExaBGP surely sends in a second, of those it has queued.
SENT_A_SECOND = 2000
#: Seconds for a NOTIFICATION to go out, and too few for ExaBGP to have the session up again.
FAREWELL = 0.1
LEFT = "the node has left (l3net node return)"
ECHO_LOST = "BFD down: held down until echo works"

Touched = Callable[[set[Prefix]], None]


class Speaking:
    """`touched` is called with the prefixes whose best paths may have changed."""

    def __init__(
        self, run_dir: FilePath, rib: LocRib, touched: Touched, faults: Faults | None = None
    ) -> None:
        self._faults = faults or Faults()
        self._rib = rib
        self._touched = touched
        self._announcer = Announcer()
        self._dialogue = Dialogue(
            run_dir / SPEAKER_SOCKET, self._announcer, self._connected, self._heard, self._lost
        )
        self._sessions: dict[Address, Session] = {}
        self._configuring = Configuring(
            run_dir,
            self._dialogue,
            lambda: self._wanted_sessions().values(),
            self._drain_leaving,
            self._say_farewell,
        )
        self._wants: dict[Address, AdjRibOut] = {}
        self._leaving: dict[Address, Session] = {}  # being withdrawn from, then removed
        self._decided = False  # until the sessions are known, ExaBGP's configuration is not touched
        self._started = asyncio.get_running_loop().time()
        self._alive = run_dir / f"{SPEAKER_SOCKET}{ALIVE_SUFFIX}"
        self._heard_since: float | None = None  # the peers can speak: sessions known, speaker there
        self._timers: set[asyncio.TimerHandle] = set()
        self._failed_paths: set[Address] = set()
        self._held_paths: set[Address] = set()
        self.parted = False  # no session is held, whatever is wanted
        self._farewells: dict[Address, Session] = {}
        self.peers: dict[Address, PeerState] = {}
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
        if since is None or asyncio.get_running_loop().time() - since < SIGN_OF_LIFE:
            return False
        return any(session.listen for session in self._sessions.values()) and not self._alive.exists()

    @property
    def undecodable(self) -> int:
        return self._dialogue.undecodable

    def set_sessions(self, sessions: Mapping[Address, Session]) -> None:
        """Take over the sessions of now. What leaves is withdrawn before its neighbour is removed."""
        self._decided = True
        self._look_at_clock()
        now = asyncio.get_running_loop().time()
        for address in [gone for gone in self.peers if gone not in sessions]:
            if self._announcer.established(address):
                self._leaving[address] = self.peers[address].session
                self._announcer.want(address, {})
            del self.peers[address]
            self._wants.pop(address, None)
        self._leaving = {
            address: session for address, session in self._leaving.items() if address not in sessions
        }
        for address, session in sessions.items():
            if address in self.peers:
                peer = self.peers[address]
                peer.resetting = peer.resetting or neighbor(session) != neighbor(peer.session)
                raised = session.max_prefixes > peer.session.max_prefixes
                peer.session = session
                if raised and peer.over_limit:
                    self._import_again(address, peer.over_limit)
            else:
                self.peers[address] = PeerState(session, since=now, reason=LEFT if self.parted else "")
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
        starting = asyncio.get_running_loop().time() - self._started < FOUND_BY
        return self._found_local.get(address) if starting and (peer is None or not peer.flaps) else None

    def want(self, address: Address, wanted: AdjRibOut) -> None:
        self._wants[address] = wanted
        self._announcer.want(address, self._sayable(address, wanted))

    def wanted(self, address: Address) -> AdjRibOut:
        """What the peer shall hear; empty until that is decided."""
        return self._wants.get(address, {})

    def _sayable(self, address: Address, wanted: AdjRibOut) -> AdjRibOut:
        """Without the prefixes whose next hop the peer could not read: their UPDATE would end the session."""
        peer = self.peers.get(address)
        if peer is None or peer.takes_its_next_hops:
            return wanted
        return {prefix: path for prefix, path in wanted.items() if prefix.version == path.next_hop.version}

    def amend(self, address: Address, prefixes: Iterable[Prefix], paths: AdjRibOut) -> None:
        """Of these prefixes the peer shall have `paths` and no other; the rest stays wanted as it is."""
        wanted = self._wants.get(address)
        if wanted is None:
            return
        changed = set(prefixes)
        for prefix in changed:
            if prefix in paths:
                wanted[prefix] = paths[prefix]
            else:
                wanted.pop(prefix, None)
        if self._sayable(address, wanted) is wanted:
            self._announcer.amend(address, changed)
        else:
            self.want(address, wanted)

    def compare(self) -> None:
        """Look again whether all that is wanted has been said: what ExaBGP refused was not."""
        for address, wanted in self._wants.items():
            self._announcer.want(address, self._sayable(address, wanted))

    def announced(self, address: Address) -> int:
        return self._announcer.announced(address) if self._announcer.established(address) else 0

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
        if asyncio.get_running_loop().time() - self._heard_since > grace:
            return True
        return all(peer.established and not peer.awaiting for peer in self.peers.values())

    def _look_at_clock(self) -> None:
        if not (self._decided and self._dialogue.up):
            self._heard_since = None
        elif self._heard_since is None:
            self._heard_since = asyncio.get_running_loop().time()

    def path_failed(self, address: Address, reason: str, shares_fate: bool) -> None:
        """BFD has lost the peer: its paths go at once, and then the session (RFC 5882 section 4.2).

        `shares_fate`: the peer's BFD dies with its BGP, so that its loss says nothing of the path while that
        restarts (section 4.3).
        """
        peer = self.peers.get(address)
        if peer is None:
            return
        if peer.restarting and shares_fate:
            log.info("peer %s (%s): %s, while it restarts; routes stay", address, peer.session.name, reason)
            return
        self._failed_paths.add(address)
        if peer.established:
            peer.notified = True
            touched = self._down(address, reason)
            self._close(peer)
        else:
            touched = self._rib.drop(address)
        self._touched(touched)

    def path_recovered(self, address: Address) -> None:
        """BFD has the peer back, or watches it no longer."""
        self._failed_paths.discard(address)

    def path_held(self, address: Address, held: bool) -> None:
        """BFD's echo has failed, and a session would prove nothing: there is none until that is over."""
        (self._held_paths.add if held else self._held_paths.discard)(address)
        peer = self.peers.get(address)
        if peer is not None and held and address in self._failed_paths:
            peer.reason = ECHO_LOST
        self._reconfigure()

    def _held_down(self, peer: PeerState) -> bool:
        """Because it flaps, or because BFD's echo has failed."""
        now = asyncio.get_running_loop().time()
        return peer.damping.held(now) or peer.session.peer_address in self._held_paths

    async def flushed(self, limit: float) -> None:
        """Until what is wanted has been told to ExaBGP and had time to go out, at most `limit` seconds."""
        deadline = asyncio.get_running_loop().time() + limit
        told = max((self._announcer.announced(address) for address in self.peers), default=0)
        while not (self._dialogue.up and self._announcer.idle and not self._dialogue.curious):
            if asyncio.get_running_loop().time() > deadline:
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
            if parted:
                if peer.established:
                    peer.resetting = True  # it is not the peer that ends the session
                    self._farewells[address] = peer.session
                    touched |= self._down(address, LEFT)
                peer.reason = LEFT
            elif not peer.established:
                peer.reason = ""
        self._reconfigure()
        if touched:
            self._touched(touched)

    async def closed(self, limit: float) -> None:
        """After `part`: until ExaBGP has no sessions, at most `limit` seconds."""
        await self._configuring.in_force(limit)

    async def _say_farewell(self) -> None:
        """Cease, Administrative Shutdown (RFC 4486), just before the neighbours go: ExaBGP removes one
        without a word, and dials again after a teardown."""
        sessions, self._farewells = self._farewells, {}
        for address in sessions:
            self._dialogue.ask(commands.teardown(address, commands.ADMINISTRATIVE_SHUTDOWN))
        if sessions:
            await asyncio.sleep(FAREWELL)

    def _close(self, peer: PeerState, subcode: int = commands.BFD_DOWN) -> None:
        """Withdraw, then tear down: ExaBGP closes without a NOTIFICATION under graceful restart, and the far
        side would keep what we had announced."""
        address = peer.session.peer_address
        peer.closing = peer.resetting = True
        epoch = peer.epoch
        lines = self._announcer.leave(address)
        for line in lines:
            self._dialogue.ask(line)

        def tear_down() -> None:
            if peer.closing:
                self._dialogue.ask(commands.teardown(address, subcode))

        def give_up() -> None:
            if peer.epoch == epoch:
                peer.closing = peer.resetting = False

        if lines:
            self._later(DRAIN_FLUSH, tear_down)  # ExaBGP answers when a line is queued, not when it is sent
        else:
            tear_down()
        self._later(CLOSE_LIMIT, give_up)

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
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while self._leaving and self._dialogue.up and asyncio.get_running_loop().time() < deadline:
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
        return {
            address: session
            for address, session in self._sessions.items()
            if address not in self.peers or not self._held_down(self.peers[address])
        }

    # --- the connection ----------------------------------------------------------------------------------

    def _connected(self) -> None:
        log.info("connected to the speaker")
        self._look_at_clock()
        self._dialogue.ask(commands.SHOW_ADJ_RIB_OUT, self._learn_announced)
        self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours)
        self._later(ASK_AGAIN, lambda: self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours))
        self._reconfigure()

    def _lost(self) -> None:
        log.warning("lost the speaker; learned routes stay while it restarts")
        self._heard_since = None
        now = asyncio.get_running_loop().time()
        for address, peer in self.peers.items():
            if peer.established:
                peer.established, peer.since, peer.reason = False, now, "speaker restarting"
                peer.restarting = False
            peer.epoch += 1
            self._rib.mark_stale(address)
            self._expire_stale(address, peer.session.graceful_restart)

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY)
            if self._dialogue.up and not self._dialogue.curious:
                self._dialogue.ask(commands.SHOW_NEIGHBORS, self._learn_neighbours)

    def _heard(self, messages: list[Message]) -> None:
        touched: set[Prefix] = set()
        for message in messages:
            try:
                touched |= self._handle(message)
            except Exception as err:  # of one message: the others are heard
                self._faults.note(f"speaker: {type(message).__name__}", err, lasting=False)
        if touched:
            self._touched(touched)

    # --- messages ----------------------------------------------------------------------------------------

    def _handle(self, message: Message) -> set[Prefix]:
        if self._dialogue.took(message):
            return set()
        match message:
            case StateChanged(peer=address, state="up"):
                return self._up(address, fresh=True)
            case StateChanged(peer=address, state="down", reason=reason):
                return self._down(address, reason)
            case Opened(peer=address) if address in self.peers:
                self.peers[address].opened = message
                self._learn_as_number(message)
            case Notified(peer=address, code=code, subcode=subcode, received=received, text=text):
                if address in self.peers:
                    self.peers[address].notified = True
                    self.peers[address].told = text or self.peers[address].told
                    side = "received" if received else "sent"
                    name = Notification(code, subcode, received)
                    said = f": {text}" if text else ""
                    log.warning("peer %s: NOTIFICATION %s: %s%s", address, side, name, said)
            case Updated():
                return self._learn(message)
            case EndOfRib(peer=address, family=family):
                self._heard_all(address, family, SWEEP_DELAY)
            case Refresh(peer=address, family=family, subtype="begin") if address in self.peers:
                self.peers[address].demarcated.add(family)
            case Refresh(peer=address, family=family, subtype="end"):
                self._heard_all(address, family, 0.0)
            case _:
                pass
        return set()

    def _learn_as_number(self, opened: Opened) -> None:
        """Of a peer of whatever AS: it is expected to be of this one from now on."""
        session = self.peers[opened.peer].session
        known = (0, session.peer_as, self.as_numbers.get(opened.peer))
        if session.any_as and opened.as_number not in known:
            log.info("peer %s (%s): is of AS %d", opened.peer, session.name, opened.as_number)
            self.as_numbers[opened.peer] = opened.as_number
            self.on_as_number()

    def _learn(self, update: Updated) -> set[Prefix]:
        address = update.peer
        touched = self._rib.withdraw(address, update.withdrawn)
        for prefix, path_id in update.withdrawn_paths:
            touched |= self._rib.withdraw(address, [prefix], path_id)
        peer = self.peers.get(address)
        if address not in self._failed_paths:  # else it was said before the path failed
            touched |= self._rib.announce(address, update.announced)
            if peer is not None and not peer.established:
                peer.unseen = True
        if peer is None:
            return touched
        peer.last_update = asyncio.get_running_loop().time()
        self._note_limits(peer)
        if peer.over_limit and (update.withdrawn or update.withdrawn_paths):
            self._import_again(address, self._rib.has_room_again(address))
        return touched

    def _note_limits(self, peer: PeerState) -> None:
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
        """There is room under the prefix limit again: ask for what was turned away (RFC 2918)."""
        for family in list(families):
            log.info("peer %s: asking for all IPv%d routes again", address, family.value)
            self.peers[address].over_limit.discard(family)
            self._dialogue.ask(commands.route_refresh(address, family))

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
                if self.parted:
                    continue  # on its way out
                if peer is not None and established and address in self._failed_paths:
                    if not peer.closing:  # the failure came before we knew of the session
                        self._close(peer)
                elif established and peer is not None and not peer.established and not peer.closing:
                    # Established before we came: what it announced is asked for again (RFC 2918),
                    # and what it offered is known from here alone.
                    peer.opened = answer.opened.get(address, peer.opened)
                    if not self._knows_next_hops(peer):
                        self._close(peer, commands.ADMINISTRATIVE_RESET)
                        continue
                    self._up(address, fresh=False)
                    self._rib.mark_stale(address)
                    for family in peer.session.families:
                        self._refresh(address, family)

    def _knows_next_hops(self, peer: PeerState) -> bool:
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

    def _up(self, address: Address, *, fresh: bool) -> set[Prefix]:
        peer = self.peers.get(address)
        now = asyncio.get_running_loop().time()
        if peer is None or self.parted or self._held_down(peer):
            return set()  # on its way out: routes queued for it would make ExaBGP put off the reload
        log.info("peer %s (%s): established", address, peer.session.name)
        peer.established, peer.since = True, now
        peer.reason, peer.told, peer.notified, peer.unseen = "", "", False, False
        lost = peer.families_lost if fresh else frozenset()
        peer.found_up, peer.resetting = not fresh, False
        peer.restarting = peer.closing = False
        if fresh:
            self._failed_paths.discard(address)
        self.on_established(address, fresh)
        peer.epoch += 1
        peer.awaiting = set(peer.session.families)
        peer.demarcated.clear()
        peer.last_update = peer.since
        if fresh and peer.damping.shaky(now):
            epoch = peer.epoch
            self._later(STEADY, lambda: self._begin_to_announce(address, epoch))
        else:
            self._begin_to_announce(address, peer.epoch, fresh=fresh)
        if fresh:
            self._expire_stale(address, max(peer.restart_time, int(SWEEP_DELAY) + 1))
        touched: set[Prefix] = set()
        for family in lost:
            touched |= self._rib.sweep(address, family)
        if touched:
            log.warning("peer %s: restarted without its forwarding state; %d paths go", address, len(touched))
        return touched

    def _begin_to_announce(self, address: Address, epoch: int, *, fresh: bool = True) -> None:
        """What the peer is wanted to have; nothing if the session has ended since."""
        peer = self.peers.get(address)
        if peer is None or peer.epoch != epoch or not peer.established:
            return
        self._announcer.up(address, fresh=fresh)
        if address in self._wants:
            self._announcer.want(address, self._sayable(address, self._wants[address]))
        self._dialogue.pump()

    def _down(self, address: Address, reason: str) -> set[Prefix]:
        peer = self.peers.get(address)
        if peer is None:
            return set()
        was = peer.established
        now = asyncio.get_running_loop().time()
        if peer.told:  # until the session is up again, whatever attempts end with meanwhile
            reason = f'{reason}; the peer said: "{peer.told}"'
        if was or not (peer.closing or self._held_down(peer)):
            peer.reason = LEFT if self.parted else reason
        peer.established, peer.closing = False, False
        self._announcer.down(address)
        if not was:
            return self._keep_or_drop(peer, swept=()) if peer.unseen else set()
        hold = 0.0 if self.parted else peer.damping.flapped(now, lasted=now - peer.since)
        peer.since = now
        peer.flaps += not self.parted
        peer.epoch += 1
        log.warning("peer %s (%s): down: %s", address, peer.session.name, reason)
        if hold:
            log.warning("peer %s (%s): flaps; held down for %d s", address, peer.session.name, hold)
            peer.reason = f"held down because it flaps ({reason})"
            self._reconfigure()
            self._later(hold + 0.1, self._reconfigure)
        # RFC 4724 section 4.2: what was stale already goes, the rest is kept for the restart time.
        return self._keep_or_drop(peer, swept=() if peer.found_up else Family)

    def _keep_or_drop(self, peer: PeerState, swept: Iterable[Family]) -> set[Prefix]:
        """What becomes of the paths of a session that has ended; what is stale of `swept` goes.

        Also where we have not seen it come up, as an agent that starts at that moment may not: what it said
        meanwhile would else stay, since nothing that comes later calls it stale.
        """
        address = peer.session.peer_address
        peer.unseen = False
        if not peer.keeps_routes:
            return self._rib.drop(address)
        touched: set[Prefix] = set()
        for family in swept:
            touched |= self._rib.sweep(address, family)
        self._rib.mark_stale(address)
        self._expire_stale(address, peer.restart_time)
        peer.restarting = True
        return touched

    def _refresh(self, address: Address, family: Family) -> None:
        self._dialogue.ask(commands.route_refresh(address, family))
        self._later(REFRESH_QUIET, lambda: self._check_quiet(address, family))

    def _check_quiet(self, address: Address, family: Family) -> None:
        peer = self.peers.get(address)
        if peer is None or family not in peer.awaiting or family in peer.demarcated:
            return
        quiet = asyncio.get_running_loop().time() - peer.last_update
        if quiet >= REFRESH_QUIET:
            self._heard_all(address, family, 0.0)
        else:
            self._later(REFRESH_QUIET - quiet, lambda: self._check_quiet(address, family))

    def _heard_all(self, address: Address, family: Family, delay: float) -> None:
        """The peer has said all it has of a family: what is stale still goes, after a delay."""
        peer = self.peers.get(address)
        if peer is None or not peer.established:
            return
        if delay:
            epoch = peer.epoch

            def later() -> None:
                if peer.epoch == epoch:
                    self._heard_all(address, family, 0.0)

            self._later(delay, later)
            return
        peer.awaiting.discard(family)
        touched = self._rib.sweep(address, family)
        self._touched(touched)

    def _expire_stale(self, address: Address, seconds: float) -> None:
        peer = self.peers.get(address)
        epoch = peer.epoch if peer is not None else 0

        def expire() -> None:
            if peer is not None and peer.epoch != epoch:
                return
            touched: set[Prefix] = set()
            for family in Family:
                touched |= self._rib.sweep(address, family)
            if peer is not None:
                peer.awaiting.clear()
            if touched:
                log.warning("peer %s: %d stale paths expired", address, len(touched))
            self._touched(touched)

        self._later(seconds, expire)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(handle)
            action()

        handle = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(handle)
