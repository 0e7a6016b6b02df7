"""Kubernetes Events about what is this node's own: its sessions on the BGPPeer, its drain and its tables on
the Node. What concerns the cluster, such as a service's address, the controller says, once.

Told is what lasts: an end of a session that is not over after a moment, its return, and that it is held down
because it flaps; no attempt. A router that restarts is no Event of each node for that reason. The queue is
bounded, so is what is posted at a time; the same text again is one Event.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol
from zlib import crc32

from l3net.agent.draining import stage_name
from l3net.agent.loop import Agent
from l3net.bgp.drain import Stage
from l3net.bgp.peering import Peering
from l3net.bgp.sessions import applies
from l3net.errors import GoneError, L3netError
from l3net.ipam.lease import LeaseStoreError
from l3net.model import Address, Kind

log = logging.getLogger(__name__)

#: Seconds between ticks, of which the last half is drawn; what is posted in one; and what waits at most.
TICK: Final = 10.0
AT_ONCE: Final = 5
MOST: Final = 50
#: Ticks in which one Event is tried.
ATTEMPTS: Final = 3
#: Of nodes that have one BGPPeer in common, so many tell of their sessions: a router of a thousand nodes that
#: restarts would be two thousand writes. What all sessions are like, the metrics tell.
TELLERS: Final = 64
#: Seconds that a session has to be down, before it is told.
LASTING: Final = 15.0
#: Seconds from the agent's start in which sessions come up that there were before.
STARTING: Final = 120.0


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """`normal`: nothing is wrong."""

    kind: Kind
    name: str
    reason: str
    message: str
    normal: bool = False


class EventSink(Protocol):
    """Where Events are posted. Blocks; raises L3netError."""

    def tell(self, kind: Kind, name: str, reason: str, message: str, *, normal: bool) -> None:
        """Post an Event about an object that belongs to no namespace."""
        ...


class Eventing:
    """Of one agent, from the moment it is made; `run` posts."""

    def __init__(self, agent: Agent, sink: EventSink) -> None:
        self._agent, self._sink = agent, sink
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._due: dict[NodeEvent, int] = {}  # how often it was tried
        self._down: dict[Address, tuple[float, str]] = {}  # sessions that have ended: since when, and why
        self._told_down: set[Address] = set()
        self._seen: set[Address] = set()
        self._standing: dict[str, str] = {}  # problems of the node that are told, by reason
        self._stage = agent.draining.stage
        self.posted = self.dropped = 0
        peers, draining = agent.speaking.peers, agent.draining
        said, changed = peers.on_said, draining.on_changed

        def on_said(peer: Peering, text: str) -> None:
            said(peer, text)
            self._said(peer, text)

        def on_changed() -> None:
            changed()
            self._drained()

        peers.on_said, draining.on_changed = on_said, on_changed

    def counts(self) -> tuple[int, int]:
        """How many were posted, and left out."""
        return self.posted, self.dropped

    # --- what is heard -----------------------------------------------------------------------------------

    def _put(self, kind: Kind, name: str, reason: str, message: str, *, normal: bool = False) -> None:
        event = NodeEvent(kind, name, reason, message, normal)
        if event in self._due:
            return
        if len(self._due) >= MOST:
            self.dropped += 1
            return
        self._due[event] = 0

    def _on_node(self, reason: str, message: str, *, normal: bool = False) -> None:
        self._put(Kind.NODE, self._agent.node_name, reason, message, normal=normal)

    def _tells_of(self, name: str) -> bool:
        """Whether this node is one of those that tell of a peer's sessions: which, the names decide."""
        state, me = self._agent.state, self._agent.node_name
        having = [node for node, fact in state.nodes.items() if applies(state.peers[name], fact)]
        if len(having) <= TELLERS:
            return True
        return me in sorted(having, key=lambda node: crc32(f"{node} {name}".encode()))[:TELLERS]

    def _on_peer(self, name: str, address: Address, reason: str, what: str, *, normal: bool = False) -> None:
        if not self._tells_of(name):
            return
        message = f"session of node {self._agent.node_name} with {address} {what}"
        self._put(Kind.BGP_PEER, name, reason, message, normal=normal)

    def _said(self, peer: Peering, text: str) -> None:
        address, name = peer.session.peer_address, peer.session.name
        if name not in self._agent.state.peers:
            return  # of the mesh: no object to tell it of
        what, _, why = text.partition(": ")
        if what == "established":
            known = address in self._seen or self._now() - self._began < STARTING
            self._seen.add(address)
            self._down.pop(address, None)
            if address in self._told_down:
                self._told_down.discard(address)
                self._on_peer(name, address, "SessionEstablished", "is established again", normal=True)
            elif not known:
                self._on_peer(name, address, "SessionEstablished", "is established", normal=True)
        elif what == "down":
            self._down.setdefault(address, (self._now(), why))
        elif what.startswith("flap-damped"):
            self._on_peer(name, address, "SessionDamped", f"is held down because it flaps ({what})")

    def _drained(self) -> None:
        draining = self._agent.draining
        if draining.stage == self._stage:
            return
        self._stage = draining.stage
        if draining.stage is Stage.NONE:
            self._on_node("DrainOver", "routes of this node count as before", normal=True)
        else:
            cause = draining.cause.value if draining.cause is not None else ""
            self._on_node("Draining", f"{stage_name(draining.stage)} ({cause})", normal=True)

    # --- what is looked at -------------------------------------------------------------------------------

    def look(self) -> None:
        """Note what lasts by now."""
        agent, now = self._agent, self._now()
        peers = agent.speaking.peers
        for gone in (self._seen | self._told_down | self._down.keys()) - peers.keys():
            self._seen.discard(gone)
            self._told_down.discard(gone)
            self._down.pop(gone, None)
        left = agent.draining.stage is Stage.LEFT
        for address, (since, why) in list(self._down.items()):
            if now - since < LASTING and not left:
                continue
            del self._down[address]
            name = peers[address].session.name
            if not (left or peers[address].established) and name in agent.state.peers:
                self._told_down.add(address)
                self._on_peer(name, address, "SessionDown", f"is down: {why}")

    def _stand(self, reason: str, message: str, over: tuple[str, str]) -> None:
        """A problem of the node is told when it begins, and when it is over."""
        told = self._standing.get(reason)
        if message and told is None:
            self._on_node(reason, message)
            self._standing[reason] = message
        elif told is not None and not message:
            self._on_node(*over, normal=True)
            del self._standing[reason]

    def _of_node(self, full: str | None) -> None:
        """`full`: the families without an address left; None if that cannot be told."""
        refused = self._agent.kernel.problems.get("firewall", "")
        text = (
            f"the kernel refuses nftables rules, the rules in force are older: {refused}" if refused else ""
        )
        self._stand("TableRefused", text, ("TableInForce", "the nftables rules are in force as wanted"))
        if full is None:
            return
        text = f"no {full} address is left in the blocks of this node; new pods wait" if full else ""
        self._stand("NoAddressLeft", text, ("AddressLeft", "the blocks of this node have room again"))

    def _full(self) -> str | None:
        try:
            room = list(self._agent.podnet.room())
        except LeaseStoreError:
            return None
        return ", ".join(f"IPv{each.value}" for each, size, use in room if use.leased + use.cooling >= size)

    # --- what becomes of it ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(TICK * (0.5 + self._agent.shells.random.random() / 2))
            if self._agent.in_sync and self._agent.passes:
                self.look()
                self._of_node(await asyncio.to_thread(self._full))  # it asks a file
                if self._due:
                    await asyncio.to_thread(self.post)

    def post(self) -> None:
        """Post some. What fails is tried a few times."""
        for event in list(self._due)[:AT_ONCE]:
            try:
                self._sink.tell(event.kind, event.name, event.reason, event.message, normal=event.normal)
            except GoneError:
                self.dropped += 1  # with the object goes what was to be said
            except L3netError as err:
                log.debug("Event %s: %s", event.reason, err)
                self._due[event] += 1
                if self._due[event] < ATTEMPTS:
                    continue
                self.dropped += 1
            else:
                self.posted += 1
            del self._due[event]
