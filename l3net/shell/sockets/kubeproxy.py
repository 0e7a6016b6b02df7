"""Whether kube-proxy answers on this node: by its metrics port, which says its mode, or its health port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Final

from l3net.config import HEALTH_PORT
from l3net.services.proxymode import METRICS_PORT

LOOPBACK: Final = ("127.0.0.1", "::1")
#: Seconds for one answer, and the longest that is read.
TIMEOUT: Final = 1.0
LONGEST: Final = 4096
#: Bears the header by which l3net's own answers on the same port are told from kube-proxy's.
OURS: Final = b"\r\nserver: l3net\r\n"


async def kube_proxy_answers(*, health_is_ours: bool = False) -> str:
    """Its mode, or the port by which it answers; empty: it does not. `health_is_ours`: this process listens
    on its health port, on all addresses, and nobody else can.

    To be called in the network namespace of the host. Where nothing listens that is said at once.
    """
    ports = [(METRICS_PORT, "/proxyMode")] + [(HEALTH_PORT, "/healthz")] * (not health_is_ours)
    asked = [(at, port, path) for port, path in ports for at in LOOPBACK if _may_listen(at, port)]
    if not asked:
        return ""
    heads = await asyncio.gather(*(_get(*each) for each in asked))
    answers = [(port, *each) for (_, port, _), each in zip(asked, heads, strict=True)]
    for port, head, body in answers:
        word = body.strip().decode("ascii", errors="replace")
        well = head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
        if port == METRICS_PORT and well and word.isalpha() and len(word) <= 32:
            return word
    for port, head, body in answers:
        if port == HEALTH_PORT and b"lastUpdated" in body and OURS not in head.lower():
            return f"port {HEALTH_PORT}"
    return ""


def _may_listen(address: str, port: int) -> bool:
    """False: nobody does there. On a loopback address the refusal of a connection is there when connect(2)
    returns, and most often that is the answer; by way of a stream it is twenty times the work."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            if probe.connect_ex((address, port)) not in {0, errno.EINPROGRESS}:
                return False
            return probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    except OSError:  # no such family, or no descriptors
        return True


async def _get(address: str, port: int, path: str) -> tuple[bytes, bytes]:
    """Head and body of an answer; empty: there is none."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(address, port, limit=LONGEST)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                answer = await reader.read(LONGEST)
                while not reader.at_eof() and len(answer) < LONGEST:
                    answer += await reader.read(LONGEST)
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head + b"\r\n", body
    return b"", b""
