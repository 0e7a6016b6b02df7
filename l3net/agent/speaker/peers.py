"""Carries out what the peers' machines (`l3net.bgp.peering`) say, in the RIB, the announcer and ExaBGP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from l3net.agent.speaker.dialogue import Dialogue
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.bmp.messages import Opens
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.messages import Message, OpensTold, ReplayBegan, ReplayEnded
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Path
from l3net.bgp.peer_actions import (
    Action,
    Announce,
    AskReceived,
    AskRefresh,
    Drop,
    Keep,
    LookAgain,
    Reconfigure,
    Say,
    Silence,
    Sweep,
    TearDown,
    Withdraw,
)
from l3net.bgp.peer_reasons import ECHO_LOST
from l3net.bgp.peering import Peering
from l3net.model import Address, Prefix

log = logging.getLogger("l3net.bgp")

#: Seconds in which the speaker tells what it is asked for, or is not waited for.
CATCHES_UP = 10.0

Touched = Callable[[set[Prefix]], None]


class Peers(dict[Address, Peering]):
    """By address. `touched` is called with what a timer touches; all else answers with it."""

    def __init__(
        self,
        rib: LocRib,
        announcer: Announcer,
        dialogue: Dialogue,
        touched: Touched,
        reconfigure: Callable[[], None],
        token: Callable[[], str],
    ) -> None:
        super().__init__()
        self._rib = rib
        self._announcer = announcer
        self._dialogue = dialogue
        self._touched = touched
        self._reconfigure = reconfigure
        self._token = token
        self._wants: dict[Address, AdjRibOut] = {}
        self._timers: dict[Address, asyncio.TimerHandle] = {}
        self._who_is_up = False  # whether the speaker has told
        #: Called when it is no longer `catching_up`, with peers for whom nothing is decided.
        self.caught_up: Callable[[], None] = lambda: None
        #: Called with each thing that a peer's machine has to say.
        self.on_said: Callable[[Peering, str], None] = lambda _peer, _text: None
        #: Called with a peer to which something has happened.
        self.on_changed: Callable[[Address], None] | None = None
        self._asked: dict[Address, tuple[str, float]] = {}  # token of what the speaker is to tell, and when

    # --- what they shall hear ----------------------------------------------------------------------------

    def want(self, address: Address, wanted: AdjRibOut) -> None:
        self._wants[address] = wanted
        self._announcer.want(address, self._announceable(address, wanted))

    @property
    def up_by_mesh(self) -> frozenset[bool]:
        """Whether sessions of the mesh (True) are up, and whether others (False)."""
        return frozenset(peer.session.mesh for peer in self.values() if peer.established)

    @property
    def wants(self) -> Mapping[Address, AdjRibOut]:
        """What each peer shall hear, as far as that is decided."""
        return self._wants

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
        if self._announceable(address, wanted) is wanted:
            self._announcer.amend(address, changed)
        else:
            self.want(address, wanted)

    def hears(self, address: Address) -> AdjRibOut:
        """What a peer shall hear and can: the Adj-RIB-Out after policy. Not to be changed."""
        return self._announceable(address, self._wants.get(address, {}))

    def has_told(self, address: Address, prefix: Prefix, path: Path) -> bool:
        """Whether ExaBGP has been told this of a prefix for a peer."""
        return self._announcer.said(address).get(prefix) == path

    def compare(self) -> None:
        """Look again whether all that is wanted has been said: what ExaBGP refused was not."""
        for address, wanted in self._wants.items():
            self._announcer.look_again(address, self._announceable(address, wanted))

    def _announceable(self, address: Address, wanted: AdjRibOut) -> AdjRibOut:
        """Without families that the peer does not speak, and without prefixes whose next hop it could not
        read: their UPDATE would end the session."""
        peer = self.get(address)
        if peer is None or not peer.established:
            return wanted
        spoken = {family.value for family in peer.negotiated}
        if not peer.takes_its_next_hops:
            return {
                prefix: path
                for prefix, path in wanted.items()
                if prefix.version in spoken and prefix.version == path.next_hop.version
            }
        if len(spoken) == len(peer.families):
            return wanted
        return {prefix: path for prefix, path in wanted.items() if prefix.version in spoken}

    # --- actions -----------------------------------------------------------------------------------------

    def forget(self, address: Address) -> None:
        """It is no peer any more."""
        del self[address]
        self._wants.pop(address, None)
        self._asked.pop(address, None)
        if (timer := self._timers.pop(address, None)) is not None:
            timer.cancel()

    def do(self, address: Address, actions: Iterable[Action]) -> set[Prefix]:
        """Carry a machine's actions out; the prefixes whose best paths may have changed."""
        touched: set[Prefix] = set()
        for action in actions:
            touched |= self._do(address, action)
        self._arm(address)
        if self.on_changed is not None:
            self.on_changed(address)
        return touched

    def _do(self, address: Address, action: Action) -> set[Prefix]:
        match action:
            case Keep(families):
                for family in families:
                    self._rib.mark_stale(address, family)
            case Sweep(families, why):
                return self._say_gone(
                    address, why, set().union(*(self._rib.sweep(address, family) for family in families))
                )
            case Drop(families, why):
                return self._say_gone(address, why, self._rib.drop(address, families))
            case Announce(fresh):
                self._announce(address, fresh=fresh)
            case Silence():
                self._announcer.down(address)
            case AskReceived():
                self.ask_received(address)
            case AskRefresh(family):
                self._dialogue.ask(commands.route_refresh(address, family))
            case LookAgain(family):
                stale = self._rib.has_stale(address, family)
                peer = self[address]
                return self.do(address, peer.refresh_answered(_now(), family, stale=stale))
            case Withdraw():
                for line in self._announcer.leave(address):
                    self._dialogue.ask(line)
            case TearDown(subcode):
                self._dialogue.ask(commands.teardown(address, subcode))
            case Reconfigure(0.0):
                self._reconfigure()
            case Reconfigure(seconds):
                asyncio.get_running_loop().call_later(seconds, self._reconfigure)
            case Say(level, text):
                log.log(level, "%s: %s", self._named(address), text)
                self.on_said(self[address], text)
        return set()

    def _named(self, address: Address) -> str:
        return f"peer {address} ({self[address].session.name})"

    def _say_gone(self, address: Address, why: str, gone: set[Prefix]) -> set[Prefix]:
        if why and gone:
            log.warning("%s: %s; removing %d stale paths", self._named(address), why, len(gone))
        return gone

    def _announce(self, address: Address, *, fresh: bool) -> None:
        peer = self[address]
        self._announcer.up(address, fresh=fresh, families=peer.negotiated)
        if address in self._wants:
            self._announcer.want(address, self._announceable(address, self._wants[address]))
        self._dialogue.pump()

    # --- what the speaker knows of what they have said -----------------------------------------------------

    def ask_received(self, address: Address) -> None:
        """Have the speaker tell all that the peer has announced."""
        token = self._token()
        self._asked[address] = asked = token, _now()

        def refused() -> None:
            peer = self.get(address)
            if peer is not None and self._asked.get(address) == asked:
                self._told(address)
                self._touch(self.do(address, peer.replay_refused(_now())))

        asyncio.get_running_loop().call_later(CATCHES_UP, self._look_whether_caught_up)
        self._dialogue.ask(commands.received(token, address), on_refusal=refused)

    def ask_opens(self, told: Callable[[Mapping[Address, Opens] | None], None]) -> None:
        """Have the speaker tell the OPENs of all sessions that are up; `told` gets None if it keeps none."""
        if not self._dialogue.up:
            told({})
            return

        def learn(answers: list[Message]) -> None:
            for answer in answers:
                if isinstance(answer, OpensTold):
                    told(answer.peers)
                    return
            told({})

        self._dialogue.ask(commands.SHOW_OPENS, learn, lambda: told(None))

    def found(self) -> None:
        """The speaker has told which sessions are up; without peers they are not decided yet."""
        self._who_is_up = bool(self)
        self._look_whether_caught_up()

    def _told(self, address: Address) -> None:
        del self._asked[address]
        self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        if not self.catching_up and not self.keys() <= self._wants.keys():
            self.caught_up()

    @property
    def catching_up(self) -> bool:
        """Whether the speaker has yet to tell what peers have said on sessions that were found up, or which
        these are."""
        if not self._who_is_up:
            return True
        now = _now()
        found = (address for address, (_, when) in self._asked.items() if now - when < CATCHES_UP)
        return any((peer := self.get(address)) is not None and peer.established for address in found)

    def replayed(self, message: ReplayBegan | ReplayEnded) -> set[Prefix]:
        """It begins, or has ended; that somebody else asked for concerns nobody."""
        address = message.peer
        peer = self.get(address)
        if peer is None or self._asked.get(address, ("", 0.0))[0] != message.token:
            return set()
        if isinstance(message, ReplayEnded):
            self._told(address)
            return self.do(address, peer.replay_ended(_now()))
        return self.do(address, peer.replay_began(_now(), message.opened, message.lasted, message.heard))

    # --- BFD ---------------------------------------------------------------------------------------------

    def path_failed(self, address: Address, reason: str, shares_fate: bool) -> None:
        """BFD has lost the peer: its paths go at once, and then the session (RFC 5882 section 4.2).

        `shares_fate`: the peer's BFD dies with its BGP, so that its loss says nothing of the path while that
        restarts (section 4.3).
        """
        peer = self.get(address)
        if peer is not None:
            self._touch(self.do(address, peer.failed(_now(), reason, shares_fate=shares_fate)))

    def path_recovered(self, address: Address) -> None:
        """BFD has the peer back, or watches it no longer."""
        peer = self.get(address)
        if peer is not None:
            peer.path_failed = False

    def path_held(self, address: Address, held: bool) -> None:
        """BFD's echo has failed, and a session would prove nothing: there is none until that is over."""
        peer = self.get(address)
        if peer is not None:
            peer.echo_lost = held
            if held and peer.path_failed:
                peer.reason = ECHO_LOST
        self._reconfigure()

    # --- timers ------------------------------------------------------------------------------------------

    def _arm(self, address: Address) -> None:
        """One timer a peer, for the next thing that its machine has to do."""
        timer = self._timers.pop(address, None)
        if timer is not None:
            timer.cancel()
        peer = self.get(address)
        deadline = peer.deadline if peer is not None else None
        if deadline is not None:
            self._timers[address] = asyncio.get_running_loop().call_at(deadline, self._tick, address)

    def _tick(self, address: Address) -> None:
        peer = self.get(address)
        if peer is not None:
            self._touch(self.do(address, peer.tick(_now())))

    def _touch(self, prefixes: set[Prefix]) -> None:
        if prefixes:
            self._touched(prefixes)


def _now() -> float:
    return asyncio.get_running_loop().time()
