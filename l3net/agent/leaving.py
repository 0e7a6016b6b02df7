"""The end of a node: withdrawn first, then the sessions closed, and only then does the agent end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from l3net.agent.dirty import Dirty, Marks
from l3net.agent.draining import Draining
from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.drain import Stage
from l3net.model import ClusterState

#: Seconds for the last withdrawals to go out.
FLUSH_LIMIT: Final = 20.0
#: Seconds for ExaBGP to close all sessions.
CLOSE_LIMIT: Final = 15.0


class Leaving:
    """Drives a drain through its stages."""

    def __init__(self, draining: Draining, speaking: Speaking, marks: Marks) -> None:
        self._draining = draining
        self._speaking = speaking
        self._marks = marks
        self._finished = asyncio.Event()
        self._passed = asyncio.Event()  # a pass of a node that shall close its sessions has ended

    async def hear(self) -> None:
        """Hear of a wish to leave or to return. Until cancelled."""
        while True:
            if self._draining.overtaken():
                self._marks.look_again()
            await self._draining.touched()

    async def see_out(self) -> None:
        """Close the sessions when all has been withdrawn. Until cancelled."""
        draining = self._draining
        self._passed.set()  # what failed before is tried again
        while True:
            await self._passed.wait()
            self._passed.clear()
            if draining.stage is Stage.WITHDRAWN and Dirty.STATE not in self._marks.dirty:
                await self._speaking.flushed(FLUSH_LIMIT)
                if draining.stage is Stage.WITHDRAWN:  # nobody thought better of it meanwhile
                    self._speaking.part(True)
                    await self._speaking.closed(CLOSE_LIMIT)
                    draining.left()
                    self._marks.look_again()

    def look(self, state: ClusterState, me: str) -> None:
        """Find the stage of now; a stage that time brings is looked for in time."""
        self._draining.look(state.nodes[me], state.configuration.drain)
        due = self._draining.due()
        if due is not None:
            asyncio.get_running_loop().call_later(due + 0.01, self._marks.look_again)

    def pass_ends(self) -> None:
        """A pass has ended, well or not: what is withdrawn by now may be seen out."""
        if self._draining.stage is Stage.WITHDRAWN:
            self._passed.set()

    def passed(self) -> None:
        """A pass has ended well: with the agent told to stop, it may be the last."""
        draining = self._draining
        if draining.ending and (not draining.final or draining.stage is Stage.LEFT):
            self._finished.set()

    async def finish(self, state: ClusterState) -> None:
        """The agent is to stop. On a node that leaves or shuts down this ends when it has left; on any other
        after one more pass, with everything as it is."""
        self._draining.ending = True
        self._marks.look_again()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(state.configuration.drain.wait + FLUSH_LIMIT + CLOSE_LIMIT):
                await self._finished.wait()
