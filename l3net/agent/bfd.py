"""The agent's end of BFD: tells the BFD process which peers to watch, and acts on what it says.

A failure counts until BFD is up again or the peer's BGP session is established afresh, which proves the path
as well (RFC 5882 section 4.2: BGP does not wait for a BFD session that was never up). Unless it was echo that
failed: BGP says nothing of the peer's forwarding, and is held down until echo works or BFD is heard no
more. While the BFD process is away nothing counts as failed that was not before, and nothing is held down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from l3net.bfd.authentication import Key
from l3net.bfd.control import (
    ControlError,
    Hello,
    SessionState,
    WantedSession,
    decode_event,
    encode_forgive,
    encode_wanted,
)
from l3net.bgp.exabgp.decoder import LineBuffer
from l3net.bgp.sessions import Session
from l3net.model import Address
from l3net.ports import Connect

log = logging.getLogger("l3net.bfd")

#: How long BFD waits for BGP to be up first, in seconds: FRR makes its BFD session anew when BGP comes up,
#: and one that was up by then would flap. A peer that holds BGP back until BFD is up is served too.
BGP_FIRST = 10.0

Adjacent = Callable[[Address], bool]
#: Called with the peer, why, and whether its BFD shares fate with its control plane (RFC 5882 section 4.3).
Failed = Callable[[Address, str, bool], None]
Recovered = Callable[[Address], None]
#: Called with the peer, and whether BGP's coming back is to count for nothing.
Held = Callable[[Address, bool], None]


def wanted_session(session: Session, adjacent: Adjacent, *, begin: bool = True) -> WantedSession | None:
    """The BFD session beside a BGP session. Single hop for a neighbour on a link of ours (RFC 5881), unless
    its BGPPeer says multihop; multihop for all others (RFC 5883)."""
    settings = session.bfd
    if settings is None:
        return None
    key = None
    if settings.auth is not None:
        if session.bfd_secret is None:
            return None
        key = Key(settings.auth.type, settings.auth.key_id, session.bfd_secret)
    declared = session.multihop is not None and not session.mesh
    # A link-local address is never farther away, though a link that is down may have taken its route along.
    multihop = declared or not (session.peer_address.is_link_local or adjacent(session.peer_address))
    return WantedSession(
        peer=session.peer_address,
        local=session.local_address,
        interface=None if multihop else session.source_interface,
        multihop=multihop,
        min_interval=settings.min_interval,
        multiplier=settings.multiplier,
        passive=settings.passive,
        key=key,
        begin=begin,
        echo_transmit=0 if multihop else settings.echo_transmit,
        echo_receive=0 if multihop else settings.echo_receive,
    )


class Liveness:
    """One for all peers. `failed`, `recovered` and `held` are called as things happen."""

    def __init__(self, connect: Connect, failed: Failed, recovered: Recovered, held: Held) -> None:
        self._link = connect(self._connected, self._received, self._lost)
        self._buffer = LineBuffer()
        self._on_failed = failed
        self._on_recovered = recovered
        self._on_held = held
        self._held: set[Address] = set()
        self._wanted: tuple[WantedSession, ...] | None = None
        self._problem = ""
        self._failed: set[Address] = set()
        self._states: dict[Address, SessionState] = {}
        self._sessions: Mapping[Address, Session] = {}
        self._adjacent: Adjacent = lambda _address: True
        self._begun: set[Address] = set()  # may be begun, if they are not yet
        self._timers: dict[Address, asyncio.TimerHandle] = {}

    def set_sessions(self, sessions: Mapping[Address, Session], adjacent: Adjacent) -> None:
        """Watch the peers of these sessions that have BFD."""
        self._sessions, self._adjacent = sessions, adjacent
        self._begun &= sessions.keys()
        loop = asyncio.get_running_loop()
        for gone in self._timers.keys() - sessions.keys():
            self._timers.pop(gone).cancel()
        for peer in sessions.keys() - self._timers.keys():
            self._timers[peer] = loop.call_later(BGP_FIRST, self._begin, peer)
        self._tell()

    def _begin(self, peer: Address) -> None:
        if peer not in self._begun:
            self._begun.add(peer)
            self._tell()

    def _tell(self) -> None:
        found = (
            wanted_session(session, self._adjacent, begin=peer in self._begun)
            for peer, session in self._sessions.items()
        )
        wanted = tuple(each for each in found if each is not None)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        peers = {each.peer for each in wanted}
        for gone in self._states.keys() - peers:
            del self._states[gone]
        for gone in self._failed - peers:
            self._recover(gone)
        for gone in self._held - peers:
            self._hold(gone, held=False)
        self._send_wanted()

    def failed(self, peer: Address) -> bool:
        """Whether the path to the peer is known to be down."""
        return peer in self._failed

    def established(self, peer: Address, fresh: bool) -> None:
        """The peer's BGP session is up; `fresh`: since now."""
        self._begin(peer)
        if fresh and peer in self._failed:
            log.info("peer %s: BGP is back before BFD; its paths count again", peer)
            self._link.send(encode_forgive(peer))
            self._recover(peer)

    def problems(self) -> list[str]:
        if self._wanted and not self._link.up:
            return ["BFD is asked for and its process cannot be reached; is `l3net bfd` running?"]
        return [f"BFD: {self._problem}"] if self._wanted and self._problem else []

    def status(self, peer: Address, now: float) -> dict[str, Any] | None:
        """What is shown of a peer's BFD session; None when it has none."""
        wanted = next((each for each in self._wanted or () if each.peer == peer), None)
        if wanted is None:
            return None
        state = self._states.get(peer)
        if state is None or not self._link.up:
            known = self._link.up and not wanted.begin
            return {"state": "waiting for BGP" if known else "unknown", "failed": peer in self._failed}
        return {
            "state": state.state,
            "remoteState": state.remote_state,
            "sinceSeconds": round(now - state.since, 1),
            "detectionTimeMs": state.detection_time,
            "transmitIntervalMs": state.transmit_interval,
            "diagnostic": state.diagnostic,
            "remoteDiagnostic": state.remote_diagnostic,
            "multihop": wanted.multihop,
            "failed": peer in self._failed,
            "flaps": state.flaps,
            "echo": state.echo,
        }

    def up(self) -> dict[Address, bool]:
        """Of each peer that BFD watches, whether it is up; not of those for whose BGP session it waits."""
        linked = self._link.up
        return {
            each.peer: linked and (state := self._states.get(each.peer)) is not None and state.state == "Up"
            for each in self._wanted or ()
            if each.begin
        }

    @property
    def served(self) -> bool:
        """Whether the BFD process is there, or nobody asks for it."""
        return self._link.up or not self._wanted

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._link.run()

    def _connected(self) -> None:
        self._buffer = LineBuffer()
        self._send_wanted()

    def _received(self, data: bytes) -> None:
        for line in self._buffer.receive(data):
            self._heard(line)

    def _lost(self) -> None:
        if self._wanted:
            log.warning("lost the BFD process; peers are not watched until it is back")
        for peer in list(self._held):
            self._hold(peer, held=False)

    def _send_wanted(self) -> None:
        # Before the sessions are known nothing is asked for, or those of an earlier agent would be ended.
        if self._wanted is not None:
            self._link.send(encode_wanted(self._wanted))

    def _heard(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except ControlError as err:
            log.error("the BFD process is not understood: %s", err)
            return
        if isinstance(event, Hello):
            self._problem = event.problem
            log.info("BFD process, pid %d: %s", event.pid, event.problem or "ready")
            return
        peer = event.peer
        if not any(each.peer == peer for each in self._wanted or ()):
            return
        before = self._states.get(peer)
        self._states[peer] = event
        if before is None or before.state != event.state:
            log.info("peer %s: BFD %s (%s)", peer, event.state, event.diagnostic)
        if event.failed and peer not in self._failed:
            self._failed.add(peer)
            self._on_failed(peer, f"BFD down: {event.diagnostic}", event.shares_fate)
        elif not event.failed and peer in self._failed and event.state == "Up" and not event.echo_lost:
            self._recover(peer)
        self._hold(peer, held=event.echo_lost)

    def _hold(self, peer: Address, *, held: bool) -> None:
        if held != (peer in self._held):
            (self._held.add if held else self._held.discard)(peer)
            self._on_held(peer, held)

    def _recover(self, peer: Address) -> None:
        self._failed.discard(peer)
        self._on_recovered(peer)
