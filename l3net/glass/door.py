"""The door to the agent: the one part of a looking glass that keeps root's rights.

The agent's socket is root's alone, and the web server is not root. Between them stands a process that does
one thing: it takes a question of a fixed list, connects to the agent, asks it, and hands the open connection
over (SCM_RIGHTS, unix(7)). It reads no answer and no request of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from pathlib import Path
from typing import Any, Final

from l3net.errors import L3netError, NotRunningError
from l3net.glass.packed import loads

#: What may be asked: each changes nothing, and opens no file that who asks can name.
QUESTIONS: Final = frozenset(
    {
        "brief",
        "status",
        "routes",
        "exports",
        "services",
        "pods",
        "policy",
        "history",
        "explain",
        "neighbors",
        "flows",
    }
)
LONGEST_QUESTION: Final = 4000
#: Seconds to connect to the agent, and for a whole answer.
CONNECT: Final = 2.0
PATIENCE: Final = 35.0
#: Of an answer, in bytes: that of 400,000 routes has a quarter of it.
LONGEST_ANSWER: Final = 512 << 20
#: Answers that are read at a time.
AT_ONCE: Final = 4
_PIECE: Final = 1 << 18


def keep_door(door: socket.socket, agent: Path) -> None:
    """Serve questions (SOCK_SEQPACKET: one a message) until the other end is closed."""
    while question := door.recv(LONGEST_QUESTION + 1):
        try:
            with _asked(agent, question) as connection:
                socket.send_fds(door, [b"+"], [connection.fileno()])
        except (OSError, ValueError) as err:
            why = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            with contextlib.suppress(OSError):
                door.send(b"-" + why.encode(errors="replace")[:500])


def _asked(agent: Path, question: bytes) -> socket.socket:
    """A connection to the agent by which it answers. Raises ValueError, OSError."""
    word = question.partition(b" ")[0].decode(errors="replace")
    if word not in QUESTIONS or b"\n" in question or len(question) > LONGEST_QUESTION:
        raise ValueError("that is not a question of the looking glass")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT)
        connection.connect(str(agent))
        connection.sendall(question + b"\n")
    except OSError:
        connection.close()
        raise
    return connection


class Asker:
    """The web server's end of the door, in its event loop. `closed` is set once the door is gone."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._door.setblocking(False)
        self._waiting: deque[asyncio.Future[socket.socket]] = deque()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(door.fileno(), self._ready)

    async def ask(self, question: str) -> dict[str, Any]:
        """The agent's answer to one line. Raises NotRunningError, L3netError."""
        async with self._turn:
            connection = await self._connection(question)
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await _read(connection)
                    found = await asyncio.to_thread(loads, answer)
            except TimeoutError:
                raise NotRunningError(f"the agent does not answer within {PATIENCE:.0f} s") from None
            except (OSError, ValueError) as err:
                raise NotRunningError(f"the agent's answer was cut off ({type(err).__name__})") from None
        if not isinstance(found, dict):
            raise L3netError("the agent's answer is not understood")
        return found

    async def _connection(self, question: str) -> socket.socket:
        if self.closed.is_set():
            raise NotRunningError("the door to the agent is closed")
        waiting: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            self._door.send(question.encode()[: LONGEST_QUESTION + 1])
        except OSError as err:
            self._waiting.pop()
            raise NotRunningError(f"the door to the agent is busy ({err.strerror})") from None
        return await waiting

    def _ready(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._door, 1024, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._end()
            return
        waiting = self._waiting.popleft()
        if waiting.cancelled():
            for each in descriptors:
                os.close(each)
        elif descriptors:
            waiting.set_result(socket.socket(fileno=descriptors[0]))
        else:
            why = message[1:].decode(errors="replace")
            waiting.set_exception(NotRunningError(f"no agent answers ({why}); is `l3net agent` running?"))

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._door.fileno())
        self.closed.set()
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(NotRunningError("the door to the agent is closed"))


async def _read(connection: socket.socket) -> bytes:
    """One line. Raises ValueError where it has no end, OSError."""
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        pieces, size = [], 0
        while piece := await reader.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if piece.endswith(b"\n"):
                return b"".join(pieces)
            if size > LONGEST_ANSWER:
                break
        raise ValueError("no whole answer")
    finally:
        writer.close()
