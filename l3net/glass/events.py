"""Server-sent events: what has changed of the fabric and what has happened, to a bounded number of listeners.

The nodes are asked while somebody listens, and not otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from l3net.errors import L3netError
from l3net.glass import merged
from l3net.glass.backend import Backend, Query, UnknownQuestionError
from l3net.glass.fabric import changes
from l3net.glass.packed import plain

log = logging.getLogger("l3net.glass")

#: Listeners at a time.
MOST: Final = 32
#: Events that wait for one; who is slower is told to ask anew.
WAITING: Final = 32
#: Seconds between two looks, at least; a node more makes it longer by SECONDS_A_NODE.
INTERVAL: Final = 2.0
SECONDS_A_NODE: Final = 0.02
#: Seconds after which a listener is told that the connection lives.
HEARTBEAT: Final = 15.0
#: Entries of the history asked for at each look; connections that are told at each.
ENTRIES: Final = 200
FLOWS: Final = 200


def event(name: str, value: object) -> bytes:
    """As text/event-stream has it."""
    return f"event: {name}\ndata: {json.dumps(value, separators=(',', ':'), default=plain)}\n\n".encode()


class Events:
    """`listen` yields what is to be sent; the first piece is a greeting."""

    def __init__(self, backend: Backend, interval: float = INTERVAL) -> None:
        self._backend, self._interval = backend, interval
        self._listeners: dict[asyncio.Queue[bytes | None], bool] = {}  # whether it wants connections
        self._looking: asyncio.Task[None] | None = None
        self._known: dict[str, Mapping[str, Any]] = {}
        self._last: dict[str, float] = {}  # by node: time of the newest entry that was told
        self._serials: dict[str, int] = {}  # by node: that of the newest connection

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST

    async def listen(self, *, flows: bool = False) -> AsyncIterator[bytes]:
        """Until the listener goes or is too slow: then the last event is `again`. `flows`: connections too,
        which nodes follow only while a listener wants them."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self._listeners[queue] = flows
        if self._looking is None or self._looking.done():
            self._known, self._last, self._serials = {}, {}, {}
            self._looking = asyncio.create_task(self._look())
        try:
            yield b"retry: 3000\n\n" + event("hello", {"interval": self._interval})
            while True:
                piece: bytes | None
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        piece = await queue.get()
                except TimeoutError:
                    piece = b": still here\n\n"
                if piece is None:
                    yield event("again", {})
                    return
                yield piece
        finally:
            self._listeners.pop(queue, None)
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    def _tell(self, piece: bytes, *, flows: bool = False) -> None:
        """`flows`: to those alone that want them."""
        for queue in [each for each, wants in self._listeners.items() if wants or not flows]:
            try:
                queue.put_nowait(piece)
            except asyncio.QueueFull:
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def _look(self) -> None:
        while True:
            wait = self._interval
            try:
                found = await merged.fabric(self._backend, {})
                wait += SECONDS_A_NODE * len(found["nodes"])
                changed, gone, self._known = changes(self._known, found["nodes"])
                if changed or gone:
                    self._tell(event("fabric", {"at": found["at"], "nodes": changed, "gone": gone}))
                await self._new_entries()
                if any(self._listeners.values()):
                    await self._new_flows()
            except L3netError as err:
                self._tell(event("problem", {"error": str(err)}))
            except Exception as err:  # of one look: the next may do better
                log.error("events: %s: %s", type(err).__name__, err)
            await asyncio.sleep(wait)

    async def _new_entries(self) -> None:
        """Of a node that is new to us only the last is asked for, to know where to begin. Clocks differ."""

        def wanted(node: str) -> Query:
            last = self._last.get(node)
            return {"limit": "1"} if last is None else {"limit": str(ENTRIES), "after": repr(last)}

        try:
            found = await merged.entries(self._backend, wanted)
        except UnknownQuestionError:
            return
        new = [entry for entry in found["entries"] if entry["node"] in self._last]
        for node in self._known.keys() - {each["node"] for each in found["failures"]}:
            self._last.setdefault(node, 0.0)
        for entry in found["entries"]:
            self._last[entry["node"]] = max(self._last.get(entry["node"], 0.0), entry["at"])
        if new:
            self._tell(event("history", {"entries": new}))

    async def _new_flows(self) -> None:
        """Connections since the last look. An agent that has begun anew counts from one again."""
        answers = await merged.each(self._backend, "flows", {})
        try:
            found = merged.flows_of(answers)
        except UnknownQuestionError as err:
            self._tell(event("problem", {"error": str(err)}), flows=True)
            return
        newest: dict[str, int] = {}
        for row in found["flows"]:
            newest[row["node"]] = max(newest.get(row["node"], 0), row["serial"])
        before = {
            node: serial if serial <= newest.get(node, serial) else 0
            for node, serial in self._serials.items()
        }
        new = [row for row in found["flows"] if row["serial"] > before.get(row["node"], 0)]
        self._serials.update(newest)
        self._tell(event("flows", {**found, "flows": new[-FLOWS:]}), flows=True)
