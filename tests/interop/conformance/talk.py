"""One side of a conversation: a speaker that says exactly what a row's script tells it to.

Every row has an address of its own, so that what one does to a session is nothing to another, and all of them
talk at the same time, in one event loop in the speaker's network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from bgp_bytes import (
    BOTH_FAMILIES,
    ENHANCED_REFRESH,
    KEEPALIVE,
    LOCAL_PREF,
    NOTIFICATION,
    OPEN,
    ORIGIN_IGP,
    REFRESH,
    UPDATE,
    WELL_KNOWN,
    attribute,
    four_octets,
    message,
    next_hop,
    nlri,
    opening,
    parameter,
    path,
    reach,
    unreach,
    update,
)
from duts import PORT, Dut, Peering, Ribs, addresses

#: How long an answer may take on a busy machine, in seconds; a session; one after another that has ended.
PATIENCE = 8.0
FIRST = 12.0
AGAIN = 45.0
CLOSED = "closed"
#: Which of a row's prefixes shows that the session is of use.
FRESH = 7
KEPT = "session kept"


class Refused(Exception):  # noqa: N818 - it is an answer
    """The session did not come up; says how it ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    kind: int
    body: bytes
    at: float


class Connection:
    """A TCP connection; what is heard is kept in `heard`, `ended` is set when the other side closes it.

    No transport of asyncio's: one that cannot write any more forgets what it has not read yet.
    """

    def __init__(self, plug: socket.socket) -> None:
        self.plug = plug
        self.heard: list[Heard] = []
        self.ended = False
        self._changed = asyncio.Condition()
        self._words: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]
        self._alive: asyncio.Task[None] | None = None

    async def _listen(self) -> None:
        loop, buffer, data = asyncio.get_running_loop(), b"", b"x"
        while data:
            try:
                data = await loop.sock_recv(self.plug, 1 << 16)
            except OSError:
                data = b""
            buffer += data
            while len(buffer) >= 19:
                length, kind = struct.unpack("!HB", buffer[16:19])
                if len(buffer) < length:
                    break
                self.heard.append(Heard(kind, buffer[19:length], time.monotonic()))
                buffer = buffer[length:]
            async with self._changed:
                self.ended = not data
                self._changed.notify_all()

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                await loop.sock_sendall(self.plug, await self._words.get())

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.send(message(KEEPALIVE))

    def stay(self) -> None:
        """From now on say that we live, each second."""
        self._alive = asyncio.create_task(self._keep_alive())

    def quiet(self) -> None:
        """Say no more KEEPALIVEs."""
        if self._alive is not None:
            self._alive.cancel()

    def deaf(self) -> None:
        """Read no more."""
        self._tasks[0].cancel()

    def send(self, data: bytes) -> None:
        self._words.put_nowait(data)

    async def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
        """Wait until what was heard is as wanted; whether it came to that."""
        with contextlib.suppress(TimeoutError):
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(lambda: bool(condition())), seconds)
        return bool(condition())

    async def settled(self) -> None:
        """Wait until it says no more, as after its first routes."""
        count = -1
        while count != len(self.heard):
            count = len(self.heard)
            await asyncio.sleep(0.2)

    def of(self, kind: int) -> list[Heard]:
        return [heard for heard in self.heard if heard.kind == kind]

    def offered(self) -> dict[int, bytes]:
        """The capabilities of its OPEN."""
        found: dict[int, bytes] = {}
        for heard in self.of(OPEN)[:1]:
            rest = heard.body[10:]
            while rest:
                kind, length = rest[0], rest[1]
                value, rest = rest[2 : 2 + length], rest[2 + length :]
                while kind == 2 and value:
                    found[value[0]] = value[2 : 2 + value[1]]
                    value = value[2 + value[1] :]
        return found

    @property
    def over(self) -> bool:
        return self.ended or bool(self.of(NOTIFICATION))

    def ending(self, *, data: bool = False) -> str:
        """How it ended, in the words of the table."""
        if not self.of(NOTIFICATION):
            return CLOSED if self.ended else KEPT
        body = self.of(NOTIFICATION)[0].body
        told = f"NOTIFICATION {body[0]}/{body[1]}"
        return f"{told} ({body[2:].hex() or 'no data'})" if data else told

    async def end(self, *, data: bool = False, seconds: float = PATIENCE) -> str:
        """Wait for the other side to end it; how it did, or that it did not."""
        await self.until(lambda: self.over, seconds)
        return self.ending(data=data)

    async def close(self) -> None:
        self.quiet()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.plug.close()


class Talk:
    """What a script has: who it is, who the other is, and the words for what good speakers say."""

    def __init__(self, dut: Dut, ribs: Ribs, number: int, version: int, peering: Peering) -> None:
        self.dut, self.ribs, self.number, self.version, self.peering = dut, ribs, number, version, peering
        self.addresses = addresses(number)
        self.here, self.there = self.addresses[version], dut.addresses[version]
        self.as_number = dut.as_number if peering.ibgp else 65002
        self.identifier = self.addresses[4]
        self.wide = True  # AS numbers of four octets are negotiated
        self.connections: list[Connection] = []

    # --- saying ------------------------------------------------------------------------------------------

    def prefix(self, which: int = 0, version: int = 0) -> str:
        """One of this row's own prefixes."""
        if (version or self.version) == 4:
            return f"{11 + which}.{self.number >> 8}.{self.number & 255}.0/24"
        return f"fd20:{which:x}:{self.number:x}::/64"

    def announcing(
        self, prefix: str, more: bytes = b"", *, origin: bytes = ORIGIN_IGP, as_path: bytes | None = None,
        hop: bytes | None = None, routes: bytes | None = None, preference: bytes = b"\0\0\0\x64",
    ) -> bytes:  # fmt: skip
        """A good UPDATE for a prefix of either family, but for what is given in its place."""
        own = path(*([] if self.peering.ibgp else [self.as_number]), wide=self.wide)
        attributes = origin + (own if as_path is None else as_path)
        if self.peering.ibgp:  # RFC 4271 section 5.1.5
            attributes += attribute(WELL_KNOWN, LOCAL_PREF, preference)
        packed = nlri(prefix) if routes is None else routes
        if ":" not in prefix:
            return update(attributes + (next_hop(self.addresses[4]) if hop is None else hop) + more, packed)
        first = reach(self.addresses[6], packed) if hop is None else hop
        return update(first + attributes + more)

    def withdrawing(self, prefix: str) -> bytes:
        return update(unreach(nlri(prefix))) if ":" in prefix else update(b"", withdrawn=nlri(prefix))

    @property
    def capabilities(self) -> bytes:
        return BOTH_FAMILIES + REFRESH + ENHANCED_REFRESH + four_octets(self.as_number)

    def opening(self, capabilities: bytes | None = None, *, hold_time: int = 90) -> bytes:
        given = self.capabilities if capabilities is None else capabilities
        return opening(self.as_number, self.identifier, parameter(2, given), hold_time=hold_time)

    # --- sessions ----------------------------------------------------------------------------------------

    async def dial(self, seconds: float = FIRST, *, once: bool = False, window: int = 0) -> Connection:
        """A connection that the other side takes; unless `once`, tried again while it does not.

        Raises Refused for one that is closed before a word.
        """
        deadline = time.monotonic() + seconds
        while True:
            family = socket.AF_INET if self.version == 4 else socket.AF_INET6
            plug = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if window:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            try:
                plug.bind((self.here, 0))
                loop = asyncio.get_running_loop()
                await asyncio.wait_for(loop.sock_connect(plug, (self.there, PORT)), 3)
            except (OSError, TimeoutError):
                plug.close()
                if once or time.monotonic() > deadline:
                    raise Refused("connection refused") from None
                await asyncio.sleep(0.1)
                continue
            connection = Connection(plug)
            self.connections.append(connection)
            await self._opened(connection)
            if not connection.over:
                return connection
            await connection.close()  # nothing has been said: it was not ready
            if once or time.monotonic() > deadline:
                raise Refused("connection refused" if not connection.heard else connection.ending())
            await asyncio.sleep(0.2)

    @staticmethod
    async def _opened(connection: Connection) -> None:
        """Some answer what comes before their own OPEN as if it came too early; others wait for ours."""
        await connection.until(lambda: connection.of(OPEN) or connection.over, 1)

    async def accept(self, seconds: float = AGAIN) -> Connection:
        """A connection that the other side makes."""
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.here, PORT))
            listener.listen()
            try:
                loop = asyncio.get_running_loop()
                plug, _ = await asyncio.wait_for(loop.sock_accept(listener), seconds)
            except TimeoutError:
                raise Refused("it does not dial") from None
        plug.setblocking(False)
        connection = Connection(plug)
        self.connections.append(connection)
        await self._opened(connection)
        return connection

    async def established(
        self, opened: bytes | None = None, *, seconds: float = FIRST, window: int = 0
    ) -> Connection:
        """A session; tried again while the other side is not done with the last one."""
        deadline = time.monotonic() + seconds
        while True:
            connection = await self.dial(seconds, window=window)
            if await self.shake(connection, opened):
                await connection.settled()
                return connection
            if time.monotonic() > deadline:
                raise Refused(connection.ending())
            await connection.close()
            await asyncio.sleep(0.2)

    async def shake(self, connection: Connection, opened: bytes | None = None) -> bool:
        """The handshake on a connection; whether it was completed."""
        connection.send(opened or self.opening())
        if not await connection.until(lambda: connection.of(OPEN) or connection.over):
            return False
        connection.send(message(KEEPALIVE))
        await connection.until(lambda: connection.of(KEEPALIVE) or connection.over)
        if connection.over:
            return False
        connection.stay()
        return bool(connection.of(KEEPALIVE))

    # --- looking -----------------------------------------------------------------------------------------

    async def used(self, prefix: str, seconds: float = PATIENCE) -> bool:
        """Whether the other side comes to use a route."""
        return await self.ribs.until(lambda rib: prefix in rib, seconds)

    async def gone(self, prefix: str, seconds: float = PATIENCE) -> bool:
        return await self.ribs.until(lambda rib: prefix not in rib, seconds)

    async def announced(self, connection: Connection, which: int = 0, version: int = 0) -> str:
        """Say a good route and wait until it is used; the prefix."""
        prefix = self.prefix(which, version)
        connection.send(self.announcing(prefix))
        if not await self.used(prefix):
            raise Refused(f"a good route is not used ({connection.ending()})")
        return prefix

    async def after(self, connection: Connection, *, data: bool = False) -> str:
        """What became of the session after the last words: ended, or kept, so that a route gets through."""
        fresh = self.prefix(FRESH)
        connection.send(self.announcing(fresh))

        async def through() -> bool:
            return await self.used(fresh)

        waiting = asyncio.create_task(through())
        ending = asyncio.create_task(connection.until(lambda: connection.over))
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done() and waiting.result():
            ending.cancel()
            # Once more: what it has answered stands behind what it has heard.
            return connection.ending(data=data)
        await ending
        waiting.cancel()
        return connection.ending(data=data) if connection.over else f"{KEPT}, nothing more is heard"

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()


def updates(connection: Connection) -> list[bytes]:
    return [heard.body for heard in connection.of(UPDATE)]
