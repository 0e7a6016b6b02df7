"""No session is removed on which something is announced that was not withdrawn.

The peer would keep it as if this node restarted, for its whole restart time. So a peer that is removed and
declared again while ExaBGP ends its session is told nothing on that one, and one that is removed once more,
at whatever moment, is withdrawn from once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from bgp_facts import path, session

from l3net.agent.shells import Speaker
from l3net.agent.speaker.speaking import DRAIN_FLUSH, Speaking
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
    #: Done while ExaBGP's configuration is being checked.
    meanwhile: Callable[[], None] | None = None

    def confirm(self) -> None: ...

    def alive(self) -> bool:
        return True

    def current(self) -> str | None:
        return self.text

    async def refused(self, head: str, blocks: Sequence[str]) -> frozenset[str]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
            await asyncio.sleep(0.05)
        return frozenset()

    async def replace(self, text: str) -> None:
        self.text = text
        self.on_replaced()

    def on_replaced(self) -> None: ...


class ExaBGP:
    """Has loaded what its file said when `load` was last called; a session is up while it stands in there."""

    up = True

    def __init__(self, files: Files) -> None:
        self.files = files
        self.loaded = ""
        self.lines: list[str] = []
        self.times: list[float] = []  # of the lines

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
        self.times.append(asyncio.get_running_loop().time())
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
        """Whether ExaBGP has been told to announce it to the peer, and not been told otherwise."""
        told = [line for line in self.lines if str(OURS.prefix) in line]
        return bool(told) and "withdraw" not in told[-1]

    @property
    def withdrawn_for(self) -> float:
        """Seconds since ExaBGP was told to withdraw it: it takes a while to do so."""
        told = [time for line, time in zip(self.lines, self.times, strict=True) if str(OURS.prefix) in line]
        return -1.0 if self.announced else asyncio.get_running_loop().time() - told[-1]


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited 5 s in vain for {what}")


class Node:
    """An agent's BGP side with one peer, which is established and has been told a prefix."""

    def __init__(self) -> None:
        self.files = Files()
        self.exabgp = ExaBGP(self.files)
        rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        made = Speaker(lambda *_: self.exabgp, self.files, lambda: "token")
        self.speaking = Speaking(made, rib, lambda _prefixes: None)
        self.exabgp.attach(self.speaking)

    def declare(self, *peers: object) -> None:
        self.speaking.set_sessions({PEER: SESSION} if peers else {})
        if peers:
            self.speaking.want(PEER, {OURS.prefix: OURS})
        self.speaking.flush()

    @property
    def established(self) -> bool:
        return PEER in self.speaking.peers and self.speaking.peers[PEER].established

    @property
    def named(self) -> bool:
        """Whether ExaBGP's file has the peer."""
        return f"neighbor {PEER}" in (self.files.text or "")

    async def start(self) -> asyncio.Task[None]:
        running = asyncio.create_task(self.speaking.run())
        self.declare(PEER)
        await until(lambda: self.files.text, "the first file")
        self.exabgp.load()
        self.declare(PEER)
        await until(lambda: self.established and self.exabgp.announced, "the announcement")
        await self.speaking.closed(5)  # until ExaBGP's configuration is in force
        return running


async def returned_while_it_ends() -> None:
    node = Node()
    running = await node.start()
    node.declare()
    await until(lambda: not node.named, "its removal")
    assert not node.exabgp.announced and node.exabgp.holds
    node.declare(PEER)
    await asyncio.sleep(0.3)
    assert not node.established and not node.exabgp.announced, "it is told nothing on a session that ends"

    node.exabgp.load()
    await until(lambda: node.named, "its return")
    node.exabgp.load()
    await until(
        lambda: not node.speaking.problem and node.exabgp.loaded == node.files.text,
        "the reload",
    )
    node.speaking._ask_neighbours()
    await until(lambda: node.established and node.exabgp.announced, "the announcement on the new session")
    running.cancel()


async def gone_again(when: str) -> None:
    node = Node()
    running = await node.start()
    withdrawn_for: list[float] = []  # when a file without the peer was written

    def look() -> None:
        if not node.named:
            withdrawn_for.append(node.exabgp.withdrawn_for)

    node.files.on_replaced = look  # type: ignore[method-assign]
    if when == "while it is withdrawn from":
        node.declare()
        await until(lambda: not node.exabgp.announced, "the withdrawal")
        await asyncio.sleep(0.1)  # it is being waited for, for DRAIN_FLUSH
        node.declare(PEER)
        node.speaking._ask_neighbours()
        await until(lambda: node.exabgp.announced, "the announcement")
        assert node.named, "the control: it was never removed"
        node.declare()
    else:
        node.files.meanwhile = node.declare
        node.declare(PEER)
    await until(lambda: withdrawn_for, "its removal")
    assert withdrawn_for[0] >= DRAIN_FLUSH
    running.cancel()


def test_a_peer_declared_again_while_its_session_ends_is_told_nothing_on_that_one() -> None:
    asyncio.run(returned_while_it_ends())


@pytest.mark.parametrize("when", ["while it is withdrawn from", "while the file is being checked"])
def test_a_peer_removed_again_is_withdrawn_from_again(when: str) -> None:
    asyncio.run(gone_again(when))
