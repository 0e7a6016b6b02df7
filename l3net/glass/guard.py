"""Connections to the page, bounded: how many there are, and how long one stands without a whole request."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

#: Connections at a time; more are closed at once.
MOST: Final = 256
#: Seconds for the head of a request, for a client to read an answer, and between two requests.
QUIET: Final = 15.0

Make = Callable[[], Any]


class Guard:
    """`protocol` is the factory of an asyncio server; a handler of requests tells `begin` and `end`."""

    def __init__(self, make: Make, most: int = MOST, quiet: float = QUIET) -> None:
        self._make, self._most, self._quiet = make, most, quiet
        self._timers: dict[asyncio.BaseTransport, asyncio.TimerHandle | None] = {}

    def protocol(self) -> asyncio.Protocol:
        return _Guarded(self, self._make())

    def opened(self, transport: asyncio.Transport) -> bool:
        """Whether there is room."""
        if len(self._timers) >= self._most:
            return False
        self._timers[transport] = None
        self.end(transport)
        return True

    def closed(self, transport: asyncio.BaseTransport) -> None:
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def begin(self, transport: asyncio.BaseTransport | None) -> None:
        """A whole request has come: whoever answers it keeps the time."""
        timer = self._timers.get(transport) if transport is not None else None
        if transport is not None and timer is not None:
            timer.cancel()
            self._timers[transport] = None

    def end(self, transport: asyncio.BaseTransport | None) -> None:
        """It is answered: the client has so long to read that and to ask anew."""
        if isinstance(transport, asyncio.Transport) and transport in self._timers:
            self.begin(transport)
            loop = asyncio.get_running_loop()
            self._timers[transport] = loop.call_later(self._quiet, _reset, transport)


def _reset(transport: asyncio.Transport) -> None:
    """Close it with a reset (tcp(7), SO_LINGER): what a client does not read is not kept for it either."""
    made = transport.get_extra_info("socket")
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Guarded(asyncio.Protocol):
    """Another protocol, with its connection counted."""

    def __init__(self, guard: Guard, inner: Any) -> None:
        self._guard, self._inner = guard, inner
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        if not self._guard.opened(transport):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._guard.closed(self._transport)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
