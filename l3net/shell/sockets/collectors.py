"""TCP connections to BMP collectors (ports.Collectors)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Final

from l3net.model import Address
from l3net.ports import CollectorError

#: Seconds for a connection to come about.
PATIENCE: Final = 10.0
#: Octets that wait in this process for one collector; the kernel's buffer is beside.
BUFFERED: Final = 256 << 10
#: TCP keepalive: a collector that is gone without a word is noticed after IDLE + PROBES * INTERVAL seconds.
IDLE: Final = 30
INTERVAL: Final = 10
PROBES: Final = 3


class TcpCollectors:
    """ports.Collectors"""

    def now(self) -> float:
        return time.time()

    async def connect(self, address: Address, port: int) -> TcpCollector:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(str(address), port)
        except TimeoutError:
            raise CollectorError(f"no answer within {PATIENCE:.0f} s") from None
        except OSError as err:
            raise CollectorError(_words(err)) from None
        return TcpCollector(reader, writer)


class TcpCollector:
    """ports.Collector"""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        writer.transport.set_write_buffer_limits(high=BUFFERED)
        sock: socket.socket = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPIDLE, IDLE),
                (socket.TCP_KEEPINTVL, INTERVAL),
                (socket.TCP_KEEPCNT, PROBES),
            ):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        try:
            await self._writer.drain()
        except OSError as err:
            raise CollectorError(_words(err)) from None

    async def ended(self) -> str:
        """A collector says nothing (RFC 7854 section 3.2); what it says all the same is thrown away."""
        try:
            while await self._reader.read(4096):
                pass
        except OSError as err:
            return _words(err)
        return ""

    def farewell(self, octets: bytes) -> None:
        self._writer.write(octets)

    def close(self) -> None:
        if self._writer.transport.get_write_buffer_size() == 0:
            self._writer.close()
        else:
            self._writer.transport.abort()


def _words(err: OSError) -> str:
    """`connection refused`, where asyncio says which call has failed."""
    return os.strerror(err.errno).lower() if err.errno else str(err) or type(err).__name__
