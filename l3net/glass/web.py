"""The web server: the page's files, the API below /api/v1/, events, and birdwatcher's paths."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final

from aiohttp import web

from l3net import __version__
from l3net.errors import ConfigError, L3netError, NotRunningError
from l3net.glass import merged
from l3net.glass.backend import Backend, NoSuchError, Query, UnknownQuestionError
from l3net.glass.events import Events
from l3net.glass.guard import MOST, QUIET, Guard
from l3net.glass.node import SELF
from l3net.glass.openapi import MERGED, description
from l3net.glass.packed import plain
from l3net.glass.resources import RESOURCES
from l3net.glass.security import HEADERS, LONGEST_VALUE, refusal
from l3net.glass.settings import Settings

log = logging.getLogger("l3net.glass")

API: Final = "/api/v1/"
#: Seconds for a listener to take an event, and for an answer that is put together.
SLOW: Final = 10.0
PATIENCE: Final = 60.0
#: Answers above so many bytes are compressed where the client takes that.
COMPRESSED: Final = 4096
_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain",
}
_CODES: Final[tuple[tuple[type[L3netError], int], ...]] = (
    (NoSuchError, 404),
    (ConfigError, 400),
    (UnknownQuestionError, 501),
    (NotRunningError, 503),
    (L3netError, 502),
)
_ALL: Final[Mapping[str, Callable[[Backend, Query], Awaitable[dict[str, Any]]]]] = {
    "fabric": merged.fabric,
    "search": merged.search,
    "services": merged.services,
    "addresses": merged.addresses,
    "history": merged.history,
    "drops": merged.drops,
    "flows": merged.flows,
}


class Page:
    """One file of the page: read at the start, so that no path of a request names a file."""

    def __init__(self, name: str, content: bytes) -> None:
        self.kind = _TYPES[name.rpartition(".")[2]]
        self.content = content
        self.packed = gzip.compress(content, mtime=0)
        self.tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def page_files() -> dict[str, Page]:
    """By name."""
    files = resources.files("l3net.glass") / "page"
    return {each.name: Page(each.name, each.read_bytes()) for each in files.iterdir() if each.is_file()}


class Web:
    """`run` serves on sockets that listen already. `bounds`: connections, and seconds for a slow one."""

    def __init__(self, backend: Backend, settings: Settings, files: Mapping[str, Page]) -> None:
        self._backend, self._settings, self._files = backend, settings, files
        self._events = Events(backend)
        self._description = description(cluster=backend.cluster)
        self.bounds = (MOST, QUIET)
        self._guard = Guard(lambda: None)

    async def run(self, listening: list[socket.socket], until: Awaitable[object]) -> None:
        """Until `until` is done."""
        app = web.Application(middlewares=[self._checked], client_max_size=1024)
        app.router.add_route("*", "/{path:.*}", self._routed)
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=30, lingering_time=0, shutdown_timeout=1
        )
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - for the type checker
        self._guard = Guard(runner.server, *self.bounds)
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(self._guard.protocol, sock=each) for each in listening]
        try:
            await until
        finally:
            for server in servers:
                server.close()
            await self._events.close()
            await runner.cleanup()

    @web.middleware
    async def _checked(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._guard.begin(request.transport)
        try:
            no = refusal(request, self._settings, facts=_facts(request.path))
            response = _error(*no) if no is not None else await self._answered(request, handler)
            if not response.prepared:
                _dress(response)
            return response
        finally:
            self._guard.end(request.transport)

    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except L3netError as err:
            return _error(next(code for kind, code in _CODES if isinstance(err, kind)), str(err))
        except TimeoutError:
            return _error(504, f"no answer within {PATIENCE:.0f} s")
        except web.HTTPException as err:
            return _error(err.status, err.reason)
        except Exception as err:  # of one request: the next is answered
            log.exception("%s failed", request.path[:200])
            return _error(500, f"the page failed ({type(err).__name__}); see its log")

    async def _routed(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == f"{API}events":
            return await self._stream(request)
        if not _facts(path):
            return self._file(request)
        async with asyncio.timeout(PATIENCE):
            value = await self._value(path, _query(request))
            return await _json(request, value)

    async def _value(self, path: str, query: Query) -> dict[str, Any]:
        if path.startswith("/birdwatcher/"):
            name, words = SELF, path.removeprefix("/birdwatcher/")
            if self._backend.cluster:
                name, _, words = words.partition("/")
            return await self._backend.get(name, f"birdwatcher/{words}", query)
        match path.removeprefix(API).split("/"):
            case [""]:
                return await self._root()
            case ["openapi.json"]:
                return self._description
            case ["nodes"]:
                return {"cluster": self._backend.cluster, "nodes": list(await self._backend.names())}
            case ["nodes", named, "birdwatcher", *rest] if rest:
                return await self._backend.get(named, f"birdwatcher/{'/'.join(rest)}", query)
            case ["nodes", node, resource]:
                _known(query, resource, RESOURCES)
                return await self._backend.get(node, resource, query)
            case [name] if name in _ALL:
                _known(query, name, MERGED)
                if missing := [each for each in MERGED[name].required if not query.get(each)]:
                    raise ConfigError(f"{missing[0]}: {MERGED[name].parameters[missing[0]]}")
                return await _ALL[name](self._backend, query)
            case _:
                raise NoSuchError(f"there is no {path[:80]}; see {API}openapi.json")

    async def _root(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "cluster": self._backend.cluster,
            "nodes": len(await self._backend.names()),
            "description": f"{API}openapi.json",
        }

    def _file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.path.removeprefix("/") or "index.html")
        if found is None:
            raise NoSuchError(f"there is no page {request.path[:80]}")
        headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == found.tag:
            return web.Response(status=304, headers=headers)
        content = found.content
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"], content = "gzip", found.packed
        return web.Response(body=content, content_type=found.kind, charset="utf-8", headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        wanted = _query(request).get("flows", "false")
        if wanted not in ("true", "false"):
            raise ConfigError("flows: true or false")
        if self._events.full:
            return _error(503, "too many listen already; try again later")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        _dress(response)
        if request.method == "HEAD":
            return response
        await response.prepare(request)
        listening = self._events.listen(flows=wanted == "true")
        try:
            async for piece in listening:
                async with asyncio.timeout(SLOW):
                    await response.write(piece)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await listening.aclose()  # type: ignore[attr-defined]
        return response


def _facts(path: str) -> bool:
    """Whether more is asked for than the page's own files."""
    return path.startswith((API, "/birdwatcher/"))


def _query(request: web.Request) -> dict[str, str]:
    """Raises ConfigError for what is given twice, or too long."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in found:
            raise ConfigError(f"{name[:40]} is given twice")
        if len(value) > LONGEST_VALUE or "\n" in value or "\0" in value:
            raise ConfigError(f"{name[:40]}: at most {LONGEST_VALUE} characters, in one line")
        found[name] = value
    return found


def _known(query: Query, name: str, known: Mapping[str, Any]) -> None:
    """Raises ConfigError for a parameter that there is not: one that is misspelt must not pass for none."""
    if name in known and (others := sorted(query.keys() - known[name].parameters.keys())):
        there = ", ".join(known[name].parameters) or "none"
        raise ConfigError(f"there is no parameter {others[0][:40]}; there are: {there}")


async def _json(request: web.Request, value: object) -> web.Response:
    content = await asyncio.to_thread(
        lambda: json.dumps(value, separators=(",", ":"), default=plain).encode()
    )
    response = web.Response(body=content, content_type="application/json")
    if len(content) > COMPRESSED and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.body = await asyncio.to_thread(gzip.compress, content, 3)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _error(status: int, why: str) -> web.Response:
    response = web.json_response({"error": why}, status=status)
    if status == 405:
        response.headers["Allow"] = "GET, HEAD"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in (405, 414, 421):
        response.force_close()  # nothing is read of a body that may follow
    return response


def _dress(response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "l3net"
