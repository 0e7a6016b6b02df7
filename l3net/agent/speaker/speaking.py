"""The agent's BGP side: drives ExaBGP through the relay and keeps what the peers say in the Loc-RIB.

Rules that keep sessions and routes alive: nothing is announced before the declared state is complete; a
question to ExaBGP goes out alone, so that its answer is unmistakable; when the speaker is lost, learned
paths stay, marked stale, until the peers have said them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l3net.agent.shells import Speaker
from l3net.agent.speaker.configuring import Configuring
from l3net.agent.speaker.dialogue import Dialogue
from l3net.agent.speaker.hearing import Hearing
from l3net.agent.speaker.out_queues import OutQueues
from l3net.agent.speaker.peers import Peers, Touched
from l3net.agent.supervising import kept_up
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.configuration import reset_by
from l3net.bgp.exabgp.messages import Message, Neighbors
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.peer_reasons import LEFT
from l3net.bgp.peering import Peering
from l3net.bgp.sessions import Session
from l3net.faults import Faults
from l3net.model import Address, Prefix
from l3net.notification import ADMINISTRATIVE_SHUTDOWN
from l3net.retry import until_beat

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


@dataclass(frozen=True, eq=False)
class Departure:
    """One time that a session goes: the same peer may return and go again meanwhile."""

    session: Session


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
        self.announcer = Announcer()
        self._dialogue = Dialogue(speaker.connect, self.announcer, self._connected, self._hear, self._lost)
        self._sessions: dict[Address, Session] = {}
        self._configuring = Configuring(
            speaker.files,
            self._dialogue,
            lambda: self._wanted_sessions().values(),
            self._drain_leaving,
            self._say_farewell,
        )
        self.peers = Peers(rib, self.announcer, self._dialogue, touched, self._reconfigure, speaker.token)
        self.queues = OutQueues(self.announcer, self._dialogue)
        self._leaving: dict[Address, Departure] = {}  # being withdrawn from, then removed
        self._decided = False  # until the sessions are known, ExaBGP's configuration is not touched
        self._started = _now()
        self._files = speaker.files
        self._heard_since: float | None = None  # the peers can speak: sessions known, speaker there
        self.parted = False  # no session is held, whatever is wanted
        self._farewells: dict[Address, Session] = {}
        self._found_local = self._configuring.known_local_addresses()
        self.hearing = Hearing(
            self.peers,
            rib,
            self.announcer,
            self._dialogue,
            touched,
            self._faults,
            self._configuring.known_as_numbers(),
        )

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
            if self.announcer.established(address):
                self._leaving[address] = Departure(self.peers[address].session)
                self.announcer.want(address, {})
            self.peers.forget(address)
        for address in self._leaving.keys() & sessions.keys():
            del self._leaving[address]
        for address, session in sessions.items():
            if address in self.peers:
                peer = self.peers[address]
                peer.resetting = peer.resetting or reset_by(peer.session, session)
                raised = session.max_prefixes > peer.session.max_prefixes
                peer.session = session
                if raised and peer.over_limit:
                    self.hearing.import_again(address, peer.over_limit)
            else:
                reason = LEFT if self.parted else ""
                self.peers[address] = Peering(session, since=now, reason=reason, parted=self.parted)
        touched = self._rib.set_sessions(sessions)
        for peer in self.peers.values():
            self.hearing.note_limits(peer)
        self._sessions = dict(sessions)
        self.announcer.set_sessions(self._held_sessions())
        self._configuring.mark()
        if any(not peer.established for peer in self.peers.values()):
            self._dialogue.ask(commands.SHOW_NEIGHBORS, self.learn_neighbours)
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

    async def flushed(self, limit: float) -> None:
        """Until what is wanted has been told to ExaBGP and had time to go out, at most `limit` seconds."""
        deadline = _now() + limit
        told = max((self.announcer.announced(address) for address in self.peers), default=0)
        while not (self._dialogue.up and self.announcer.idle and not self._dialogue.curious):
            if _now() > deadline:
                log.warning("timed out sending final withdrawals")
                return
            told = max(told, *(self.announcer.announced(address) for address in self.peers), 0)
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

    def _hear(self, messages: list[Message]) -> None:
        self.hearing.heard(messages)

    def _touch(self, touched: set[Prefix]) -> None:
        if touched:
            self._touched(touched)

    def _reconfigure(self) -> None:
        if self._decided:
            self._configuring.mark()

    async def _drain_leaving(self) -> None:
        """Withdraw before a neighbour is removed.

        ExaBGP sends no NOTIFICATION then, so that graceful restart would keep the routes at the peer.
        """
        deadline, leaving = _now() + DRAIN_SECONDS, dict(self._leaving)
        while leaving and self._dialogue.up and _now() < deadline:
            self._dialogue.pump()
            if self.announcer.idle:
                await asyncio.sleep(DRAIN_FLUSH)  # ExaBGP answers when a line is queued, not when it is sent
                break
            await asyncio.sleep(0.05)
        for address, departure in leaving.items():
            if self._leaving.get(address) is departure:  # else it has returned, and may be going again
                del self._leaving[address]
        if leaving:
            self.announcer.set_sessions(self._held_sessions())

    def _held_sessions(self) -> dict[Address, Session]:
        """Those of now, and those that are withdrawn from."""
        return {**{address: each.session for address, each in self._leaving.items()}, **self._sessions}

    def _wanted_sessions(self) -> dict[Address, Session]:
        """The sessions ExaBGP shall have now: all but those held down, also those that are withdrawn from;
        none on a node that has left."""
        if self.parted:
            return {}
        now = _now()
        return {
            address: session
            for address, session in self._held_sessions().items()
            if address not in self.peers or not self.peers[address].held(now)
        }

    def learn_neighbours(self, answers: list[Message]) -> None:
        """Which configuration ExaBGP has loaded, and which sessions are up."""
        for answer in answers:
            if isinstance(answer, Neighbors):
                if self._decided and not self._leaving:
                    self._configuring.compare(answer.loaded)
                if not self.parted:
                    self.hearing.found(answer, but=self._configuring.removing)

    # --- the connection ----------------------------------------------------------------------------------

    def _connected(self) -> None:
        log.info("connected to the speaker")
        self.queues.anew()
        self._look_at_clock()
        self._dialogue.ask(commands.PACKED)
        self._dialogue.ask(commands.SHOW_ADJ_RIB_OUT, self.hearing.learn_announced)
        self._dialogue.ask(commands.SHOW_NEIGHBORS, self.learn_neighbours)
        asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_neighbours)
        self._reconfigure()

    def _ask_neighbours(self) -> None:
        self._dialogue.ask(commands.SHOW_NEIGHBORS, self.learn_neighbours)

    def _lost(self) -> None:
        log.warning("lost the speaker; learned routes stay while it restarts")
        self._heard_since = None
        self.queues.anew()
        for address, peer in self.peers.items():
            self._touch(self.peers.do(address, peer.speaker_lost(_now())))

    async def _keep_asking(self) -> None:
        again, busy = 0.0, False
        while True:
            if busy or await self.queues.restless(until_beat(_now(), ASK_EVERY)):
                await asyncio.sleep(until_beat(_now(), ASK_QUEUES))
            busy = self._dialogue.curious
            if not self._dialogue.up or busy:
                continue
            due = _now() > again - ASK_QUEUES / 2
            if due:
                again = _now() + until_beat(_now(), ASK_EVERY)
                self._ask_neighbours()
            self.queues.ask(due=due)


def _now() -> float:
    return asyncio.get_running_loop().time()
