"""Whether kube-proxy answers on this node: by its metrics port, which says its mode, or its health port."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from l3net.config import HEALTH_PORT
from l3net.services.proxymode import METRICS_PORT

LOOPBACK: Final = ("127.0.0.1", "::1")
#: Seconds for one answer, and the longest that is read.
TIMEOUT: Final = 1.0
LONGEST: Final = 4096
#: Bears the header by which l3net's own answers on the same port are told from kube-proxy's.
OURS: Final = b"\r\nserver: l3net\r\n"


async def kube_proxy_answers() -> str:
    """Its mode, or the port by which it answers; empty: it does not.

    To be called in the network namespace of the host. Where nothing listens that is said at once.
    """
    asked = [_get(address, METRICS_PORT, "/proxyMode") for address in LOOPBACK]
    asked += [_get(address, HEALTH_PORT, "/healthz") for address in LOOPBACK]
    heads = await asyncio.gather(*asked)
    for head, body in heads[:2]:
        word = body.strip().decode("ascii", errors="replace")
        if head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")) and word.isalpha() and len(word) <= 32:
            return word
    for head, body in heads[2:]:
        if b"lastUpdated" in body and OURS not in head.lower():
            return f"port {HEALTH_PORT}"
    return ""


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
