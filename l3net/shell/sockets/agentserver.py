"""The agent's socket: one question a connection, a line of text, and one line of JSON in answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from l3net.faults import Faults

LONGEST_QUESTION: Final = 4096
#: Seconds for one answer; that of 200,000 routes takes two.
TIMEOUT: Final = 30.0

Rows = AsyncIterator[list[dict[str, Any]]]


class AgentServer:
    """`answer` takes a question; `status` and its `routes` are told in parts, as they are put into words.
    `slow` are questions, by their first word, in whose answers others have their turn."""

    def __init__(
        self,
        path: Path,
        answer: Callable[[str], dict[str, Any]],
        status: Callable[[], dict[str, Any]],
        routes: Callable[[], Rows],
        faults: Faults,
        slow: Mapping[str, Callable[[str], Awaitable[dict[str, Any]]]] | None = None,
    ) -> None:
        self._path = path
        self._answer, self._status, self._routes = answer, status, routes
        self._faults = faults
        self._slow = slow or {}

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
                    if question == b"status":
                        await self._tell_status(writer)
                        return
                    text = question.decode(errors="replace")
                    word, _, rest = text.partition(" ")
                    slow = self._slow.get(word)
                    answer = await slow(rest) if slow is not None else self._answer(text)
                except ConnectionError:  # who asked is gone
                    return
                except Exception as err:  # of one question: the next is answered
                    self._faults.note("agent socket", err, lasting=False)
                    answer = {"error": f"the agent failed to answer ({type(err).__name__}); see its log"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

    async def _tell_status(self, writer: asyncio.StreamWriter) -> None:
        """As one line; the routes as they are put into words."""
        writer.write(json.dumps(self._status())[:-1].encode() + b', "routes": [')
        first = True
        async for rows in self._routes():
            writer.write((b"" if first else b", ") + json.dumps(rows)[1:-1].encode())
            await writer.drain()
            first = False
        writer.write(b"]}\n")
        await writer.drain()
