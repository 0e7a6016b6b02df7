"""Says in BGPPeer.status how this node's sessions are.

Each agent writes its own entries, by read and conditional write, when they changed and not before a tick with
jitter: so a session that flaps costs the API server one write a tick, and nodes that start together do not
come together. Mesh sessions belong to no BGPPeer and are left to `l3net status`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from l3net.agent.loop import Agent
from l3net.errors import L3netError

log = logging.getLogger(__name__)

#: Seconds between ticks; each is drawn from the upper half.
TICK: Final = 30.0

#: peer, whether it is established, why not.
SessionSeen: TypeAlias = tuple[str, bool, str]


class PeerStatus(Protocol):
    """Where sessions are reported. Blocks; raises L3netError."""

    def report_sessions(self, peer: str, sessions: Sequence[SessionSeen]) -> None:
        """Replace this node's entries in the status of a BGPPeer."""
        ...


class Reporting:
    """Reports while it runs. `tick` in seconds."""

    def __init__(self, agent: Agent, status: PeerStatus, tick: float = TICK) -> None:
        self._agent, self._status, self._tick = agent, status, tick
        self._told: dict[str, tuple[SessionSeen, ...]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._tick * (0.5 + self._agent.shells.random.random() / 2))
            if self._agent.in_sync and self._agent.passes:
                await asyncio.to_thread(self.tell, self.seen())

    def seen(self) -> dict[str, tuple[SessionSeen, ...]]:
        """The sessions of each BGPPeer that has some here, or had when we told last."""
        found: dict[str, list[SessionSeen]] = {name: [] for name in self._told}
        for address, peer in self._agent.speaking.peers.items():
            if peer.session.name in self._agent.state.peers:
                row = (str(address), peer.established, "" if peer.established else peer.reason)
                found.setdefault(peer.session.name, []).append(row)
        return {name: tuple(sorted(rows)) for name, rows in found.items()}

    def tell(self, seen: dict[str, tuple[SessionSeen, ...]]) -> None:
        """Report what changed; what fails is told again next time."""
        for name, rows in seen.items():
            if self._told.get(name) == rows:
                continue
            try:
                self._status.report_sessions(name, rows)
            except L3netError as err:
                log.debug("status of BGPPeer %s: %s", name, err)
                continue
            self._told[name] = rows
            if not rows:
                del self._told[name]
