"""The looking glass of a cluster: it asks those of the nodes, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from l3net.errors import ConfigError, L3netError, NotRunningError
from l3net.glass.backend import NoSuchError, Query, UnknownQuestionError
from l3net.glass.settings import TOKEN_HEADER

#: Seconds for a node's answer, and for the connection.
PATIENCE: Final = 35.0
CONNECT: Final = 3.0
#: Connections to nodes at a time, and to one of them.
AT_ONCE: Final = 64
AT_ONE: Final = 4
#: Of an answer, in bytes.
LONGEST: Final = 256 << 20
#: Seconds for which the list of nodes counts.
LIST_AGE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's looking glass is: `url` without a slash at its end or, where it goes by another way,
    `ask` (path, query, headers), which blocks and returns status and body."""

    url: str
    ask: Callable[[str, Query, Mapping[str, str]], tuple[int, bytes]] | None = field(default=None, repr=False)


#: Where the nodes are now, by name. Raises L3netError.
Places = Callable[[], Awaitable[Mapping[str, Place]]]


class Cluster:
    """A Backend. `token` is what the nodes ask for; empty: nothing."""

    cluster = True

    def __init__(self, places: Places, session: aiohttp.ClientSession, token: str = "") -> None:
        self._find, self._session = places, session
        self._headers = {TOKEN_HEADER: token} if token else {}
        self._places: Mapping[str, Place] = {}
        self._found: float | None = None
        self._lock = asyncio.Lock()
        self._now = asyncio.get_running_loop().time

    async def names(self) -> Sequence[str]:
        """Where the list cannot be had anew, that of before."""
        async with self._lock:
            if self._found is None or self._now() - self._found > LIST_AGE:
                try:
                    self._places = await self._find()
                except L3netError:
                    if self._found is None:
                        raise
                self._found = self._now()
        return sorted(self._places)

    async def get(self, node: str, resource: str, query: Query) -> dict[str, Any]:
        await self.names()
        place = self._places.get(node)
        if place is None:
            raise NoSuchError(f"there is no node {node[:60]} here")
        path = f"/api/v1/nodes/self/{quote(resource)}"
        if place.ask is not None:
            status, content = await asyncio.to_thread(place.ask, path, query, self._headers)
        else:
            status, content = await self._fetched(node, place.url + path, query)
        return await asyncio.to_thread(_parsed, node, status, content)

    async def _fetched(self, node: str, url: str, query: Query) -> tuple[int, bytes]:
        try:
            async with self._session.get(
                url, params=dict(query), headers=self._headers, allow_redirects=False
            ) as response:
                return response.status, await _body(response)
        except TimeoutError:
            raise NotRunningError(f"the looking glass of {node} does not answer") from None
        except aiohttp.ClientError as err:
            raise NotRunningError(
                f"the looking glass of {node} cannot be reached ({_why(err)}); does `l3net glass` run there?"
            ) from None


def session() -> aiohttp.ClientSession:
    """With this room's bounds; to be closed by who asks for it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=AT_ONCE, limit_per_host=AT_ONE),
        timeout=aiohttp.ClientTimeout(total=PATIENCE, sock_connect=CONNECT),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_chunked(1 << 18):
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST:
            raise NotRunningError("its answer has no end")
    return b"".join(pieces)


def _why(err: aiohttp.ClientError) -> str:
    code = getattr(err, "os_error", None)
    return str(code.strerror or code) if code is not None else type(err).__name__


def _parsed(node: str, status: int, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise L3netError(f"what answers for {node} is no looking glass (status {status})")
    if status == 200:
        return found
    said = str(found.get("error", found.get("message", f"status {status}")))[:500]
    kinds: dict[int, type[L3netError]] = {
        400: ConfigError,
        404: NoSuchError,
        501: UnknownQuestionError,
        503: NotRunningError,
    }
    raise kinds.get(status, L3netError)(said if status in kinds else f"{node}: {said}")
