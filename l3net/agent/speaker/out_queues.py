"""What waits to be sent to each peer, here and in ExaBGP, and what has been exchanged with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from l3net.agent.speaker.dialogue import Dialogue
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.messages import Message, MessageCounts, Queue, Queues
from l3net.model import Address

#: Seconds for which somebody who looks waits for ExaBGP to tell how it is now.
PATIENCE: Final = 0.5
#: The states of a session that is not established, by the name that ExaBGP tells (RFC 4271 section 8.2.2).
_FSM: Final = {state.lower(): state for state in ("Idle", "Connect", "Active", "OpenSent", "OpenConfirm")}


class OutQueues:
    """Asked of our ExaBGP; a speaker older than we are refuses to tell."""

    def __init__(self, announcer: Announcer, dialogue: Dialogue) -> None:
        self._announcer = announcer
        self._dialogue = dialogue
        self._queues: Mapping[Address, Queue] = {}
        self._told = True
        self._awaited: asyncio.Future[None] | None = None
        self._moved = asyncio.Event()  # something was said since it was last asked for
        announcer.on_moved = self._moved.set

    def anew(self) -> None:
        """The connection is another, or gone."""
        self._queues, self._told = {}, True
        self._moved.set()

    async def restless(self, within: float) -> bool:
        """Wait until something waits or has moved, at most `within` seconds; whether it has."""
        if not self._waits():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._moved.wait()
        return self._moved.is_set() or self._waits()

    def _waits(self) -> bool:
        return any(queue.queued or queue.stuck for queue in self._queues.values())

    def ask(self, *, due: bool) -> None:
        """While something waits or has moved, and now and then."""
        asks = due or self._moved.is_set() or self._waits()
        self._moved.clear()
        if self._told and asks:
            self._dialogue.ask(commands.SHOW_QUEUES, self.learn, self._refused)

    def learn(self, answers: list[Message]) -> None:
        """The answer."""
        for answer in answers:
            if isinstance(answer, Queues):
                self._queues = answer.peers
        self._answered()

    async def fresh(self) -> None:
        """Have them told as they are now, if ExaBGP does so soon: who looks at a table wants that."""
        if not (self._told and self._dialogue.up):
            return
        if self._awaited is None:
            self._awaited = asyncio.get_running_loop().create_future()
            self._dialogue.ask(commands.SHOW_QUEUES, self.learn, self._refused)
        awaited = self._awaited
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(awaited)
        if self._awaited is awaited:
            self._answered()

    def _answered(self) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None and not awaited.done():
            awaited.set_result(None)

    def _refused(self) -> None:
        self._told = False
        self._answered()

    def _queued(self, address: Address) -> int:
        queue = self._queues.get(address)
        return queue.queued if queue is not None else 0

    def messages(self, address: Address) -> MessageCounts | None:
        """Exchanged with a peer on its session, as far as that is told."""
        queue = self._queues.get(address)
        return queue.messages if queue is not None else None

    def fsm(self, address: Address) -> str:
        """The state of a session that is not established; empty where ExaBGP has told none."""
        queue = self._queues.get(address)
        return _FSM.get(queue.fsm, "") if queue is not None else ""

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
