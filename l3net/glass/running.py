"""The processes of a looking glass: the door, which keeps its rights, and the web server, which has none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from typing import Final

from l3net.errors import ConfigError, L3netError
from l3net.glass import cluster as clusters
from l3net.glass.backend import Backend
from l3net.glass.door import Asker, keep_door
from l3net.glass.node import Nodes, OneNode
from l3net.glass.rights import give_up
from l3net.glass.settings import Listen, Settings
from l3net.glass.web import Page, Web

#: Connections that wait to be taken.
BACKLOG: Final = 64

Made = Callable[[AsyncExitStack], Awaitable[tuple[Backend, Awaitable[object]]]]


def listening(where: tuple[Listen, ...]) -> list[socket.socket]:
    """Sockets that listen there. Raises ConfigError."""
    found: list[socket.socket] = []
    for each in where:
        family = socket.AF_INET6 if each.address.version == 6 else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((str(each.address), each.port))
            made.listen(BACKLOG)
        except OSError as err:
            made.close()
            for other in found:
                other.close()
            raise ConfigError(f"--listen {each}: {err.strerror}") from err
        found.append(made)
    return found


def serve_agents(
    settings: Settings,
    sockets: list[socket.socket],
    files: dict[str, Page],
    agents: Mapping[str, Path],
    user: tuple[int, int],
) -> int:
    """Both processes, until one of them ends; the exit code. The caller becomes the door. `agents` by name of
    the node; one without a name is the only one."""
    pairs = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in agents}
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        for mine, _ in pairs.values():
            mine.close()
        _web_process(settings, sockets, files, {name: theirs for name, (_, theirs) in pairs.items()}, user)
    for each in (*sockets, *(theirs for _, theirs in pairs.values())):
        each.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: _pass_on(child, got))
    doors = [Thread(target=keep_door, args=(pairs[name][0], path)) for name, path in agents.items()]
    for door in doors:
        door.start()
    for door in doors:  # each ends as the child does
        door.join()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _web_process(
    settings: Settings,
    sockets: list[socket.socket],
    files: dict[str, Page],
    doors: Mapping[str, socket.socket],
    user: tuple[int, int],
) -> None:
    """Never returns."""
    code = 1
    try:
        give_up(*user)

        async def made(stack: AsyncExitStack) -> tuple[Backend, Awaitable[object]]:
            askers = {name: Asker(door) for name, door in doors.items()}
            nodes = {name: OneNode(asker.ask) for name, asker in askers.items()}

            async def closed() -> None:
                for asker in askers.values():
                    await asker.closed.wait()

            return nodes[""] if "" in nodes else Nodes(nodes), closed()

        asyncio.run(serve(settings, sockets, files, made))
        code = 0
    except L3netError as err:
        sys.stderr.write(f"l3net: {err}\n")
        code = err.exit_code
    except KeyboardInterrupt:
        code = 130
    finally:
        sys.stderr.flush()
        os._exit(code)


def cluster_of(places: clusters.Places, token: str) -> Made:
    """What `serve` serves, of a cluster."""

    async def made(stack: AsyncExitStack) -> tuple[Backend, Awaitable[object]]:
        session = await stack.enter_async_context(clusters.session())
        return clusters.Cluster(places, session, token), asyncio.Event().wait()

    return made


async def serve(settings: Settings, sockets: list[socket.socket], files: dict[str, Page], made: Made) -> None:
    """Until SIGTERM or SIGINT, or what `made` waits for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        backend, ends = await made(stack)
        waits = [asyncio.ensure_future(ends), asyncio.ensure_future(stop.wait())]
        try:
            await Web(backend, settings, files).run(
                sockets, asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            )
        finally:
            for each in waits:
                each.cancel()
