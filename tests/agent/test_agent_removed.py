"""A peer that is removed and declared again while ExaBGP ends its session is told nothing on that one.

What was announced on it would not be withdrawn: the peer would keep it as if this node restarted, and a peer
that is removed for good a moment later would keep it for its whole restart time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bgp_facts import path, session

from l3net.agent.shells import Speaker
from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.configuration import fingerprint
from l3net.bgp.exabgp.messages import Done, Message, Neighbors
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.verdict import ACCEPTED

SESSION = session()
PEER = SESSION.peer_address
OURS = path("10.244.1.0/24", "10.0.0.2")


class Files:
    """ExaBGP's configuration, in memory."""

    relay: Sequence[str] = ("relay",)
    unconfirmed = False
    text: str | None = None

    def confirm(self) -> None: ...

    def alive(self) -> bool:
        return True

    def current(self) -> str | None:
        return self.text

    async def refused(self, head: str, blocks: Sequence[str]) -> frozenset[str]:
        return frozenset()

    async def replace(self, text: str) -> None:
        self.text = text


class ExaBGP:
    """Has loaded what its file said when `load` was last called; a session is up while it stands in there."""

    up = True

    def __init__(self, files: Files) -> None:
        self.files = files
        self.loaded = ""
        self.lines: list[str] = []

    def attach(self, speaking: Speaking) -> None:
        self.speaking = speaking

    def load(self) -> None:
        self.loaded = self.files.text or ""

    @property
    def holds(self) -> bool:
        return f"neighbor {PEER}" in self.loaded

    async def run(self) -> None:
        await asyncio.Event().wait()

    def send_line(self, line: str) -> None:
        self.lines.append(line)
        found: list[Message] = [Done()]
        if line == commands.SHOW_NEIGHBORS:
            found = [
                Neighbors({PEER: True} if self.holds else {}, frozenset({fingerprint(self.loaded)})),
                Done(),
            ]
        asyncio.get_running_loop().call_soon(self._answer, found)

    def _answer(self, messages: list[Message]) -> None:
        self.speaking.hearing.heard(messages)
        self.speaking.flush()

    @property
    def announced(self) -> bool:
        """Whether the peer has been told, and not been told otherwise."""
        told = [line for line in self.lines if str(OURS.prefix) in line]
        return bool(told) and "withdraw" not in told[-1]


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited 5 s in vain for {what}")


async def scenario() -> None:
    files = Files()
    exabgp = ExaBGP(files)
    rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
    made = Speaker(lambda *_: exabgp, files, lambda: "token")
    speaking = Speaking(made, rib, lambda _prefixes: None)
    exabgp.attach(speaking)

    def declare(*peers: object) -> None:
        speaking.set_sessions({PEER: SESSION} if peers else {})
        if peers:
            speaking.want(PEER, {OURS.prefix: OURS})
        speaking.flush()

    def established() -> bool:
        return PEER in speaking.peers and speaking.peers[PEER].established

    running = asyncio.create_task(speaking.run())
    declare(PEER)
    await until(lambda: files.text, "the first file")
    exabgp.load()
    declare(PEER)
    await until(lambda: established() and exabgp.announced, "the announcement")

    declare()
    await until(lambda: files.text is not None and f"neighbor {PEER}" not in files.text, "its removal")
    assert not exabgp.announced and exabgp.holds
    declare(PEER)
    await asyncio.sleep(0.3)
    assert not established() and not exabgp.announced, "it is told nothing on a session that ends"

    exabgp.load()
    await until(lambda: files.text is not None and f"neighbor {PEER}" in files.text, "its return")
    exabgp.load()
    await until(lambda: not speaking.problem and exabgp.loaded == files.text, "the reload")
    speaking._ask_neighbours()
    await until(lambda: established() and exabgp.announced, "the announcement on the new session")
    running.cancel()


def test_a_peer_declared_again_while_its_session_ends_is_told_nothing_on_that_one() -> None:
    asyncio.run(scenario())
