"""ExaBGP's configuration, brought to the sessions that are wanted, and seen to be in force.

ExaBGP answers `done` to a reload also when it drops it, so it is asked which file it has loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable

from l3net.agent.speaker.dialogue import Dialogue
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.configuration import Blocks, as_numbers, fingerprint, head, local_addresses, render
from l3net.bgp.exabgp.messages import Message, Neighbors
from l3net.bgp.sessions import Session
from l3net.errors import L3netError
from l3net.model import Address
from l3net.ports import SpeakerFiles

log = logging.getLogger("l3net.bgp")

#: Seconds after each reload until ExaBGP is asked whether it took it. After the last it is started anew,
#: which every session feels: one that is busy is given time.
CONFIRM_WAITS = (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 4.0, 8.0, 15.0)
#: From here on the wait is told, in seconds.
LONG_WAIT = 4.0
ANSWER_LIMIT = 5.0
#: Seconds until a configuration that could not be written is tried again, doubled from first to longest.
FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
NOT_TAKEN = "ExaBGP has not taken the new configuration yet; new and changed sessions wait"

Step = Callable[[], Awaitable[None]]


class Configuring:
    """`wanted` tells the sessions that ExaBGP shall have. Before a file is written `prepare` is awaited, and
    `say_farewell` before ExaBGP loads it. `problem` is why the last could not be written, or empty; `refused`
    are the peers whose sessions ExaBGP cannot be given: it would refuse the file whole; `removing` are those
    that the file which ExaBGP is loading leaves out: their sessions still look as if they were to stay."""

    def __init__(
        self,
        files: SpeakerFiles,
        dialogue: Dialogue,
        wanted: Callable[[], Iterable[Session]],
        prepare: Step,
        say_farewell: Step,
    ) -> None:
        self._dialogue = dialogue
        self._wanted, self._prepare, self._say_farewell = wanted, prepare, say_farewell
        self._config = files
        self._marked = asyncio.Event()
        self._in_force = asyncio.Event()
        self._reload_due = False
        self._refused: frozenset[str] = frozenset()  # blocks
        self._rendered: tuple[tuple[tuple[Session, ...], frozenset[str]], str] | None = None  # of what
        self._blocks = Blocks()
        self._delay = FIRST_RETRY
        self.problem = ""
        self.refused: frozenset[Address] = frozenset()
        self._had: frozenset[Address] = frozenset()  # whom the last file named
        self.removing: frozenset[Address] = frozenset()

    def known_as_numbers(self) -> dict[Address, int]:
        """Of peers at link-local addresses, as the file says that is there already."""
        return as_numbers(self._config.current() or "")

    def known_local_addresses(self) -> dict[Address, Address]:
        """That the sessions of the file leave from."""
        return local_addresses(self._config.current() or "")

    def mark(self) -> None:
        """What is wanted may have changed."""
        self._in_force.clear()
        self._marked.set()

    def compare(self, loaded: Collection[str]) -> None:
        """ExaBGP says which configurations it has loaded."""
        if fingerprint(self._text()) not in loaded:
            self._reload_due = True
            self.mark()

    async def in_force(self, limit: float) -> None:
        """Until ExaBGP has the sessions that are wanted, at most `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._in_force.wait()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._marked.wait()
            self._marked.clear()
            await self._prepare()
            try:
                await self._leave_out()
                text = self._text()
                named = frozenset(session.peer_address for session in self._wanted())
                self.removing = self._had - named
                if text != self._config.current():
                    await self._config.replace(text)
                elif not (self._reload_due or self._config.unconfirmed):
                    self.problem, self._delay = "", FIRST_RETRY
                    self._had, self.removing = named, frozenset()
                    self._in_force.set()
                    continue
            except L3netError as err:
                if self.problem != str(err):
                    log.error("%s", err)
                self.problem = str(err)
                asyncio.get_running_loop().call_later(self._delay, self._marked.set)
                self._delay = min(self._delay * 2, LONGEST_RETRY)
                continue
            self.problem, self._reload_due, self._delay = "", False, FIRST_RETRY
            if self._dialogue.up:
                await self._say_farewell()
                await self._reload(text)
            self._config.confirm()
            self._had, self.removing = named, frozenset()
            if text != self._text():  # changed while ExaBGP was being reloaded
                self.mark()
            elif not self._marked.is_set():
                self._in_force.set()

    async def _leave_out(self) -> None:
        """What ExaBGP would refuse: a file that it cannot read would make it refuse every later reload too,
        and its next start. Raises SpeakerError."""
        sessions = {self._blocks.of(session): session for session in self._wanted()}
        self._blocks.keep({session.peer_address for session in sessions.values()})
        refused = await self._config.refused(head(self._config.relay), list(sessions))
        for block in refused - self._refused:
            if block in sessions:
                log.error("peer %s: ExaBGP refuses its configuration", sessions[block].name)
        self._refused = refused
        self.refused = frozenset(sessions[block].peer_address for block in refused if block in sessions)

    def _text(self) -> str:
        wanted = tuple(self._wanted()), self._refused
        if self._rendered is None or self._rendered[0] != wanted:  # it is asked for with each look at ExaBGP
            sessions = (each for each in wanted[0] if self._blocks.of(each) not in self._refused)
            self._rendered = wanted, render(sessions, self._config.relay, self._blocks.of)
        return self._rendered[1]

    async def _reload(self, text: str) -> None:
        for wait in CONFIRM_WAITS:
            if not self._dialogue.up:
                return  # it starts with the new file
            if wait == LONG_WAIT:
                self.problem = NOT_TAKEN
                log.warning("%s", NOT_TAKEN)
            self._dialogue.ask(commands.RELOAD)
            await asyncio.sleep(wait)
            if await self._has_loaded(text):
                self.problem = ""
                return
        log.warning("ExaBGP did not take the new configuration; restarting it (graceful restart covers it)")
        self._dialogue.interject(commands.RESTART)

    async def _has_loaded(self, text: str) -> bool:
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def compare(answers: list[Message]) -> None:
            loaded = {one for answer in answers if isinstance(answer, Neighbors) for one in answer.loaded}
            if not confirmed.done():
                confirmed.set_result(fingerprint(text) in loaded)

        self._dialogue.ask(commands.SHOW_NEIGHBORS, compare)
        try:
            return await asyncio.wait_for(confirmed, timeout=ANSWER_LIMIT)
        except TimeoutError:
            return False
