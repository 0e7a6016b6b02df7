"""A BGP speaker that takes what it is told and notes when: `python sink.py AS MARKED LOG`.

It listens on every address, one session each. A line in LOG for each event, times of CLOCK_MONOTONIC:
`up TIME ADDRESS`, and for each UPDATE `update TIME ANNOUNCED WITHDRAWN MARK`, where MARK is `+` or `-` if
MARKED (an IPv4 address, as /32) was among them, else `.`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from typing import TextIO

MARKER = b"\xff" * 16
OPEN, UPDATE, KEEPALIVE = 1, 2, 4


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def open_message(as_number: int, address: str) -> bytes:
    capabilities = [(1, struct.pack("!HBB", 1, 0, 1)), (2, b""), (65, struct.pack("!I", as_number))]
    packed = b"".join(struct.pack("!BB", code, len(value)) + value for code, value in capabilities)
    parameters = struct.pack("!BB", 2, len(packed)) + packed
    head = struct.pack("!BHH4sB", 4, as_number, 90, socket.inet_aton(address), len(parameters))
    return message(OPEN, head + parameters)


def count(packed: bytes) -> int:
    """Prefixes in a row of (length, octets)."""
    at = found = 0
    while at < len(packed):
        at += 1 + (packed[at] + 7) // 8
        found += 1
    return found


class Sink:
    def __init__(self, as_number: int, marked: bytes, log: TextIO) -> None:
        self.as_number, self.marked, self.log = as_number, marked, log

    def say(self, words: str) -> None:
        self.log.write(words + "\n")
        self.log.flush()

    def update(self, body: bytes, at: float) -> None:
        gone = int.from_bytes(body[:2], "big")
        attributes = int.from_bytes(body[2 + gone : 4 + gone], "big")
        withdrawn, announced = body[2 : 2 + gone], body[4 + gone + attributes :]
        mark = "+" if self.marked in announced else "-" if self.marked in withdrawn else "."
        self.say(f"update {at:.6f} {count(announced)} {count(withdrawn)} {mark}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        writer.write(open_message(self.as_number, address))
        up = False
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                header = await reader.readexactly(19)
                length, kind = struct.unpack("!HB", header[16:])
                body = await reader.readexactly(length - 19)
                at = time.monotonic()
                if kind == OPEN:
                    writer.write(message(KEEPALIVE))
                elif kind == KEEPALIVE:
                    writer.write(message(KEEPALIVE))
                    if not up:
                        up = True
                        self.say(f"up {at:.6f} {address}")
                elif kind == UPDATE:
                    self.update(body, at)
        writer.close()


async def main() -> None:
    as_number, marked, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with open(path, "w") as log:  # noqa: PTH123, ASYNC230 - the standard library alone, once
        sink = Sink(as_number, bytes([32]) + socket.inet_aton(marked), log)
        server = await asyncio.start_server(sink.serve, "0.0.0.0", 179, backlog=512)  # noqa: S104
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
