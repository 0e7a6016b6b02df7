"""A connection to a Unix socket of this node that is made again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

READ_SIZE = 1 << 18
#: Seconds between attempts, doubled from the first to the longest.
FIRST_RETRY = 0.05


class UnixLink:
    """`connected` is called with each new connection, `received` with bytes, `lost` when it ends.

    Times are in seconds. What is sent without a connection is dropped: `connected` says all anew. Where
    the socket's file is not there, `come` waits until it may have come, or for the seconds it is given.
    """

    def __init__(
        self,
        path: Path,
        connected: Callable[[], None],
        received: Callable[[bytes], None],
        lost: Callable[[], None],
        *,
        longest_retry: float,
        come: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._connected = connected
        self._received = received
        self._lost = lost
        self._longest_retry = longest_retry
        self._come = come
        self._writer: asyncio.StreamWriter | None = None

    @property
    def up(self) -> bool:
        return self._writer is not None

    def send(self, data: bytes) -> None:
        """Queue bytes."""
        if self._writer is not None:
            self._writer.write(data)

    def send_line(self, line: str) -> None:
        """Queue a line. Raises UnicodeEncodeError for what is not ASCII."""
        self.send(line.encode("ascii") + b"\n")

    async def run(self) -> None:
        """Connect, again and again. Runs until cancelled."""
        retry = FIRST_RETRY
        while True:
            if not os.path.exists(self._path):  # noqa: PTH110 - nobody there: said without a socket
                # A process that is not there, such as BFD where nobody asked for it, may never come.
                await self._come(self._longest_retry)
                retry = FIRST_RETRY  # a socket is there a moment before somebody listens
                continue
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(retry)
                retry = min(retry * 2, self._longest_retry)
                continue
            retry = FIRST_RETRY
            self._writer = writer
            self._connected()
            try:
                while data := await reader.read(READ_SIZE):
                    self._received(data)
            except OSError:
                pass
            finally:
                self._writer = None
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                self._lost()
