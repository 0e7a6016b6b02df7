"""Speaks to an API server as an agent does: the same requests in the same order, and no more.

What is asked, page sizes, how long a watch lasts and how attempts are spread come from the agent's own
modules (`registry`, `selection`, `collection`, `pacing`); `tests/scale/test_scale_asking.py` holds the
requests of both against one another. A connection for each watch, as the agent has it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

from l3net.kube.registry import KINDS as DECLARED
from l3net.kube.scope import POLICIES
from l3net.model import Kind, ObjectName
from l3net.shell.kubernetes.api import MERGE_PATCH
from l3net.shell.kubernetes.collection import PAGE, WATCH_SECONDS
from l3net.shell.kubernetes.kinds import KINDS
from l3net.shell.kubernetes.pacing import Pacing
from l3net.shell.kubernetes.reflector import BACKOFF, SHORT_WATCH
from l3net.shell.kubernetes.selection import OnNode, Selection
from l3net.shell.kubernetes.selection import query as query_of
from l3net.shell.kubernetes.writer import STRATEGIC_PATCH

_VERSION: Final = re.compile(rb'"resourceVersion":"(\d+)"')
_CONTINUE: Final = re.compile(rb'"continue":"([^"]+)"')
_HEAD: Final = 600  # octets of a list in which its metadata is


class GoneError(Exception):
    """410: the version asked for is too old."""


class Speaking:
    """One agent. `mesh`: its state makes it look at every Node; `policies`: at every Pod.

    `seconds` bound how long a watch lasts, where it is not as the agent has it.
    """

    def __init__(
        self,
        port: int,
        name: str,
        random: Random,
        *,
        mesh: bool,
        policies: bool = False,
        counted: Counter[str] | None = None,
        seconds: tuple[int, int] = WATCH_SECONDS,
    ) -> None:
        self._port, self.name, self._random, self._seconds = port, name, random, seconds
        self._mesh, self._policies = mesh, policies
        self.counted: Counter[str] = Counter() if counted is None else counted
        self._complete: dict[Kind, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._checked = -1e9
        self._gate = asyncio.Lock()  # what is read at once, in octets: the agent's threads share a processor
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    # --- what is followed --------------------------------------------------------------------------------

    def start(self, versions: Mapping[Kind, str] | None = None) -> None:
        """`versions`: where watches begin, without a list."""
        kinds = [*(kind for kind in DECLARED.watched("agent") if kind is not Kind.NODE), Kind.NODE]
        self._complete = {kind: asyncio.Event() for kind in kinds}
        for kind in kinds:
            version = (versions or {}).get(kind, "")
            self._tasks.append(asyncio.create_task(self._reflect(kind, version)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, writer in self._free:
            writer.close()

    async def synced(self) -> None:
        for each in self._complete.values():
            await each.wait()

    def _selection(self, kind: Kind) -> Selection:
        if kind is Kind.NODE and not self._mesh:
            return ObjectName("", self.name)
        if kind is Kind.POD and not self._policies:
            return OnNode(self.name)
        return None

    async def _needed(self, kind: Kind) -> None:
        """Until it is known how much of a kind is to be followed."""
        first: list[Kind] = []
        if kind is Kind.NODE:
            first = [each for each in self._complete if DECLARED[each].names_secrets]
        elif kind is Kind.POD:
            first = list(POLICIES)
        for each in first:
            await self._complete[each].wait()

    # --- a reflector -------------------------------------------------------------------------------------

    async def _reflect(self, kind: Kind, version: str) -> None:
        await self._needed(kind)
        only = query_of(self._selection(kind))
        pacing = Pacing(*BACKOFF, self._random)
        broken, began = False, 0.0
        now = asyncio.get_running_loop().time
        while True:
            try:
                if not version:
                    version = await self._list(kind, only)
                elif broken:
                    await self._check_store(kind)
                self._complete[kind].set()
                broken, began = False, now()
                version = await self._watch(kind, only, version)
                pacing.lived()
            except GoneError:
                version = ""
            except (OSError, asyncio.IncompleteReadError):
                if not broken and now() - began > SHORT_WATCH:
                    pacing.lived()
                broken = True
                await asyncio.sleep(pacing.delay())

    async def _list(self, kind: Kind, only: Mapping[str, object]) -> str:
        following = ""
        while True:
            query: dict[str, object] = {"limit": PAGE, **only}
            if following:
                query["continue"] = following
            async with self._gate:
                body = await self._get(KINDS[kind].path, query)
            found = _CONTINUE.search(body[:_HEAD])
            if found is None:
                said = _VERSION.search(body[:_HEAD])
                return said[1].decode() if said else ""
            following = found[1].decode()

    async def _check_store(self, kind: Kind) -> None:
        """After a break one of an agent's reflectors asks where the store stands."""
        now = asyncio.get_running_loop().time()
        if now - self._checked >= 2.0:
            self._checked = now
            await self._get(KINDS[kind].path, {"limit": 1})

    async def _watch(self, kind: Kind, only: Mapping[str, object], version: str) -> str:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": self._random.randint(*self._seconds),
            **only,
            "resourceVersion": version,
        }
        reader, writer = await self._connected()
        try:
            self._ask(writer, "GET", KINDS[kind].path, query)
            head = await reader.readuntil(b"\r\n\r\n")
            self.counted["octets"] += len(head)
            while True:
                frame = await reader.readline()
                size = int(frame.strip() or b"0", 16)
                line = await reader.readexactly(size + 2)
                self.counted["octets"] += len(frame) + len(line)
                if not size:
                    self._free.append((reader, writer))
                    return version
                self.counted["lines"] += 1
                if line.startswith(b'{"type":"ERROR"'):
                    raise GoneError
                found = _VERSION.search(line)
                version = found[1].decode() if found else version
        except BaseException:
            writer.close()
            raise

    # --- writes ------------------------------------------------------------------------------------------

    async def say_available(self) -> None:
        """As `KubeOwnNode.set_network_available`, where a cloud has set the condition."""
        path = KINDS[Kind.NODE].path_of(ObjectName("", self.name))
        await self._changed(path, STRATEGIC_PATCH, self._available)

    async def say_session(self, peer: str, address: str) -> None:
        """As `KubeOwnNode.report_sessions`, of one that is up."""
        path = KINDS[Kind.BGP_PEER].path_of(ObjectName("", peer))
        await self._changed(path, MERGE_PATCH, lambda found: self._session(found, address))

    @staticmethod
    def _available(_found: Mapping[str, Any]) -> dict[str, Any]:
        entry = {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "L3netIsUp",
            "message": "l3net's agent has set the network up",
            "lastHeartbeatTime": "2025-01-01T00:00:00Z",
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        }
        return {"status": {"conditions": [entry]}}

    def _session(self, found: Mapping[str, Any], address: str) -> dict[str, Any]:
        sessions = list((found.get("status") or {}).get("sessions") or ())
        if len(sessions) >= 64:
            return {}
        entry = {
            "node": self.name,
            "address": address,
            "state": "Established",
            "since": "2025-01-01T00:00:00Z",
        }
        return {"status": {"sessions": [*sessions, entry], "established": f"{len(sessions) + 1}/64"}}

    async def _changed(
        self, path: str, kind: str, change: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> None:
        """Read, then write on that version; again on a conflict."""
        for _ in range(4):
            found = json.loads(await self._get(path))
            patch = change(found)
            if not patch:
                return
            metadata = found["metadata"]
            patch["metadata"] = {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}
            body = json.dumps(patch, separators=(",", ":")).encode()
            answer = await self._whole("PATCH", f"{path}/status", {}, body, kind)
            if b'"reason":"Conflict"' not in answer[-400:]:
                return
            self.counted["conflicts"] += 1

    # --- HTTP --------------------------------------------------------------------------------------------

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
        self.counted["connections"] += 1
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _get(self, path: str, query: Mapping[str, object] | None = None) -> bytes:
        return await self._whole("GET", path, query or {})

    async def _whole(
        self, method: str, path: str, query: Mapping[str, object], body: bytes = b"", kind: str = ""
    ) -> bytes:
        reader, writer = await self._connected()
        try:
            self._ask(writer, method, path, query, body, kind)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self.counted["octets"] += len(head) + length
        self._free.append((reader, writer))
        return answer

    def _ask(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: bytes = b"",
        kind: str = "",
    ) -> None:
        target = path + ("?" + urlencode({key: str(value) for key, value in query.items()}) if query else "")
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}User-Agent: l3net\r\n\r\n".encode() + body)
        self.counted["requests"] += 1
