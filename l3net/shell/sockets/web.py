"""Metrics and probes over HTTP, read-only and off unless an address is given.

A probe that starts a Python process costs two percent of a core when it runs every ten seconds; one over HTTP
costs nothing that could be measured. On the loopback address of the node no pod reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from l3net.errors import ConfigError

TIMEOUT = 5.0
#: Connections served at a time; more are closed at once.
AT_ONCE = 16
LONGEST_REQUEST = 8192


class WebServer:
    """GET /metrics, /healthz (the loop turns), /readyz (503 and the reason when not ready).

    `metrics` answers with the exposition format's text, `unready` with the reason, empty when ready.
    """

    def __init__(
        self, address: tuple[str, int], metrics: Callable[[], str], unready: Callable[[], str]
    ) -> None:
        self._address = address
        self._metrics, self._unready = metrics, unready
        self._serving = 0

    async def run(self) -> None:
        """Runs until cancelled. Raises ConfigError when the address cannot be listened on."""
        host, port = self._address
        try:
            server = await asyncio.start_server(self._serve, host, port, limit=LONGEST_REQUEST)
        except OSError as err:
            raise ConfigError(f"--metrics-address {host} port {port}: {err.strerror}") from err
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._serving >= AT_ONCE:
            writer.close()
            return
        self._serving += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
                async with asyncio.timeout(TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head.partition(b"\r\n")[0]))
                    await writer.drain()
        except asyncio.LimitOverrunError:
            pass
        finally:
            self._serving -= 1
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        match request.split(b" "):
            case [b"GET", path, version] if version.startswith(b"HTTP/1."):
                status, body = self._page(path.partition(b"?")[0])
            case _:
                status, body = "405 Method Not Allowed", "ask for: GET /metrics, /healthz, /readyz\n"
        content = body.encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + content

    def _page(self, path: bytes) -> tuple[str, str]:
        match path:
            case b"/metrics":
                return "200 OK", self._metrics()
            case b"/healthz":
                return "200 OK", "ok\n"
            case b"/readyz":
                why = self._unready()
                return ("503 Service Unavailable", f"{why}\n") if why else ("200 OK", "ok\n")
            case _:
                return "404 Not Found", "there are: /metrics, /healthz, /readyz\n"
