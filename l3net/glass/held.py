"""Answers of the agent, kept for a moment: many who look at once cost it one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

#: Seconds for which an answer counts as new.
FRESH: Final = 1.0
#: Those that are dear to give: tables of 100,000 routes.
FRESH_TABLES: Final = 5.0
#: Different questions whose answers are kept; seconds after which one is forgotten.
MOST: Final = 32
FORGOTTEN: Final = 30.0

Ask = Callable[[str], Awaitable[dict[str, Any]]]


class Held:
    """`ask` once for all who ask the same meanwhile."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        self._now = asyncio.get_running_loop().time

    async def get(self, question: str, fresh: float = FRESH) -> dict[str, Any]:
        """The answer, at most `fresh` seconds old. Raises what `ask` raises; who asks must not change it."""
        kept = self._kept.get(question)
        if kept is not None and self._now() - kept[0] < fresh:
            return kept[1]
        running = self._running.get(question)
        if running is None:
            running = asyncio.create_task(self._asked(question))
            self._running[question] = running
            running.add_done_callback(lambda task: self._done(question, task))
        return await asyncio.shield(running)

    async def _asked(self, question: str) -> dict[str, Any]:
        answer = await self._ask(question)
        self._kept.pop(question, None)
        while len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[question] = (self._now(), answer)
        asyncio.get_running_loop().call_later(FORGOTTEN, self._forget)
        return answer

    def _done(self, question: str, task: asyncio.Task[dict[str, Any]]) -> None:
        self._running.pop(question, None)
        if not task.cancelled():
            task.exception()  # told to those who wait, if any do

    def _forget(self) -> None:
        old = self._now() - FORGOTTEN + 1
        for question in [each for each, (at, _) in self._kept.items() if at < old]:
            del self._kept[question]
