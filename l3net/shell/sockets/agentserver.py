"""The agent's socket: one question a connection, a line of text, and one line of JSON in answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from l3net.errors import L3netError
from l3net.faults import Faults

LONGEST_QUESTION: Final = 4096
#: Questions that are answered at once, by their first word.
AT_ONCE: Final = frozenset({"alive", "drain", "exports", "names", "plan", "ready"})
#: Seconds for one answer; that of 200,000 routes takes two.
TIMEOUT: Final = 30.0

Rows = AsyncIterator[list[dict[str, Any]]]
#: What follows the first word of a question -> the fields before the rows, the name of the rows, the rows.
InParts = Callable[[str], tuple[dict[str, Any], str, Rows]]


class AgentServer:
    """`answer` takes a question; `status` and its `routes` are told in parts, as they are put into words.
    `slow` are questions, by their first word, in whose answers others have their turn; `parts` those that are
    told as the status is: for these a L3netError is the answer, in words."""

    def __init__(
        self,
        path: Path,
        answer: Callable[[str], dict[str, Any]],
        status: Callable[[], dict[str, Any]],
        routes: Callable[[], Rows],
        faults: Faults,
        slow: Mapping[str, Callable[[str], Awaitable[dict[str, Any]]]] | None = None,
        parts: Mapping[str, InParts] | None = None,
    ) -> None:
        self._path = path
        self.asked: dict[str, int] = {}  # questions, by a first word that is known
        self._answer = answer
        self._faults = faults
        self._slow = slow or {}
        self._parts: Mapping[str, InParts] = {
            "status": lambda _: (status(), "routes", routes()),
            **(parts or {}),
        }

    async def run(self) -> None:
        """Runs until cancelled."""
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, str(self._path))
        finally:
            os.umask(old)
        async with server:
            await server.serve_forever()

    def _count(self, word: str) -> None:
        known = word if word in self._parts or word in self._slow or word in AT_ONCE else "other"
        self.asked[known] = self.asked.get(known, 0) + 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer_one(reader, writer)
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.LimitOverrunError, ValueError):
            async with asyncio.timeout(TIMEOUT):
                question = (await reader.readline())[:LONGEST_QUESTION].strip()
                try:
                    text = question.decode(errors="replace")
                    word, _, rest = text.partition(" ")
                    self._count(word)
                    if word in self._parts:
                        await _tell_in_parts(writer, *self._parts[word](rest))
                        return
                    slow = self._slow.get(word)
                    answer = await slow(rest) if slow is not None else self._answer(text)
                except ConnectionError:  # who asked is gone
                    return
                except L3netError as err:
                    answer = {"error": str(err)}
                except Exception as err:  # of one question: the next is answered
                    self._faults.note("agent socket", err, lasting=False)
                    answer = {"error": f"the agent failed to answer ({type(err).__name__}); see its log"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()


async def _tell_in_parts(writer: asyncio.StreamWriter, head: dict[str, Any], name: str, rows: Rows) -> None:
    """As one line; the rows as they are put into words."""
    begin = json.dumps(head)[:-1].encode() + b", " * bool(head)
    writer.write(begin + json.dumps(name).encode() + b": [")
    first = True
    async for part in rows:
        if part:
            writer.write((b"" if first else b", ") + json.dumps(part)[1:-1].encode())
            await writer.drain()
            first = False
    writer.write(b"]}\n")
    await writer.drain()
