"""A looking glass that runs in a thread, behind real HTTP, over agents that a test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from l3net.glass.backend import Backend
from l3net.glass.node import OneNode
from l3net.glass.settings import Settings
from l3net.glass.web import Web, page_files

#: An agent: question in, answer out.
Agent = Callable[[str], dict[str, Any]]


class Glass:
    """Where it is; `get` asks it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """JSON of a path below /api/v1/, whatever the status."""
        return json.loads(self.ask(f"/api/v1/{path}", headers=headers)[2])


@contextlib.contextmanager
def served(
    agent: Agent | None = None,
    settings: Settings | None = None,
    backend: Callable[[], Awaitable[Backend]] | None = None,
    prepare: Callable[[Web], None] = lambda web: None,
    port: int = 0,
) -> Iterator[Glass]:
    """With the page of one agent, or of what `backend` makes in the loop. `prepare` may change its bounds."""
    listening = socket.create_server(("127.0.0.1", port), backlog=512)
    started, loops, failures = threading.Event(), list[asyncio.AbstractEventLoop](), list[BaseException]()
    stops: list[asyncio.Event] = []

    async def run() -> None:
        async def ask(question: str) -> dict[str, Any]:
            assert agent is not None
            return agent(question)

        made = await backend() if backend is not None else OneNode(ask)
        web = Web(made, settings or Settings(()), page_files())
        prepare(web)
        loops.append(asyncio.get_running_loop())
        stops.append(asyncio.Event())
        started.set()
        await web.run([listening], stops[0].wait())

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as err:
            failures.append(err)
            started.set()

    running = threading.Thread(target=thread)
    running.start()
    started.wait()
    try:
        yield Glass(listening.getsockname()[1])
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stops[0].set)
        running.join()
        listening.close()
        if failures:
            raise failures[0]
