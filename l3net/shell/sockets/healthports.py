"""HTTP answers for load balancers, a listener a port (ports.HealthPorts).

One socket takes both families. Whoever reaches the node may ask: a balancer's addresses are not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import socket
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from l3net.errors import KernelError
from l3net.ports import Answer, HealthAnswer

#: Seconds for one question.
TIMEOUT: Final = 5.0
#: Connections at a time, of all ports together; for the next one the oldest ends.
AT_ONCE: Final = 256
LONGEST_REQUEST: Final = 8192
#: Open files that are left for all else.
SPARED: Final = 512


class HealthListeners:
    """See ports.HealthPorts. In the network namespace of the thread that calls `listen`.

    A listener is an open file: the soft limit of this process is raised to the hard one, as far as that goes.
    """

    def __init__(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(soft // 2, soft - SPARED)
        self._servers: dict[int, asyncio.Server] = {}
        self._serving: dict[asyncio.StreamWriter, None] = {}

    async def listen(self, port: int, answer: Answer) -> None:
        """Raises KernelError."""
        if len(self._servers) >= self._most:
            raise KernelError(f"listen on TCP port {port}", errno.EMFILE)
        try:
            listener = _listener(port)
            try:
                server = await asyncio.start_server(
                    partial(self._serve, answer), sock=listener, limit=LONGEST_REQUEST
                )
            except BaseException:
                listener.close()
                raise
        except OSError as err:
            raise KernelError(f"listen on TCP port {port}", err.errno or 0) from err
        self._servers[port] = server

    def holds(self, port: int) -> bool:
        """Whether there is a listener."""
        return port in self._servers

    def close(self, port: int) -> None:
        server = self._servers.pop(port, None)
        if server is not None:
            server.close()

    async def _serve(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._serving) >= AT_ONCE:
            oldest = next(iter(self._serving))
            self._serving.pop(oldest)
            oldest.transport.abort()
        self._serving[writer] = None
        try:
            with contextlib.suppress(OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
                async with asyncio.timeout(TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(head.partition(b"\r\n")[0], answer, _version(writer)))
                    await writer.drain()
        finally:
            self._serving.pop(writer, None)
            writer.close()


def _listener(port: int) -> socket.socket:
    """On all addresses of both families; of IPv4 alone where the host knows no IPv6."""
    try:
        return _bound(socket.AF_INET6, "::", port)
    except OSError as err:
        if err.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _bound(socket.AF_INET, "", port)


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.listen(AT_ONCE)
    except BaseException:
        made.close()
        raise
    return made


def _version(writer: asyncio.StreamWriter) -> int:
    """Over which IP version somebody asks."""
    address: str = writer.get_extra_info("peername")[0]
    return 6 if ":" in address and not address.startswith("::ffff:") else 4


def _response(request: bytes, answer: Answer, version: int) -> bytes:
    """To the first line of a request. Every method is GET; HEAD is answered without the body."""
    match request.split(b" "):
        case [method, target, protocol] if protocol.startswith(b"HTTP/1."):
            found = answer(target.partition(b"?")[0].decode("latin-1"), version)
        case _:
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    if found is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = json.dumps(_body(found), indent=1).encode() + b"\n"
    headers = {
        "Server": "l3net",  # told from kube-proxy's by that
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        **found.headers,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    status = "200 OK" if found.well else "503 Service Unavailable"
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return head.encode() + b"\r\n" + (b"" if method == b"HEAD" else body)


def _body(found: HealthAnswer) -> dict[str, object]:
    if found.age is None:
        return dict(found.body)
    now = datetime.now(UTC)
    times = {"lastUpdated": str(now - timedelta(seconds=found.age)), "currentTime": str(now)}
    return {**times, **found.body}
