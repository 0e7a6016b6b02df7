"""Numbered packets to a fixed rate, and a count of those that come from the far side.

    udp_stream.py HERE THERE PACKETS RATE FILE

Both ends run it. It sends PACKETS datagrams at RATE a second, whether they can be sent or not, and when the
far end's have had time to arrive writes `PACKETS RECEIVED` to FILE; each number counts once. Both ends start
sending only when they have heard each other, so that no packet is lost to a late start.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time

PORT = 40_000
HELLO = struct.pack("!i", -1)
#: Seconds after the last packet was due in which late ones still count.
LINGER = 1.0


def main() -> None:
    here, there, packets, rate, file = (
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5],
    )
    family = socket.AF_INET6 if ":" in here else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((here, PORT))
    seen: set[int] = set()

    def receive(until: float) -> None:
        """Take what arrives until a time has come."""
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                (number,) = struct.unpack("!i", sock.recv(16))
            except OSError:  # TimeoutError, or an ICMP error's echo
                continue
            seen.add(number)

    while -1 not in seen:
        _send(sock, HELLO, there)
        receive(time.monotonic() + 0.05)
    for _ in range(3):  # the far side may have missed the earlier ones
        _send(sock, HELLO, there)
    start = time.monotonic() + 0.3
    for number in range(packets):
        receive(start + number / rate)
        _send(sock, struct.pack("!i", number), there)
    receive(time.monotonic() + LINGER)
    partial = f"{file}.tmp"
    with open(partial, "w") as handle:  # noqa: PTH123 - few imports: it starts fast
        handle.write(f"{packets} {len(seen - {-1})}\n")
    os.rename(partial, file)  # noqa: PTH104


def _send(sock: socket.socket, data: bytes, there: str) -> None:
    with contextlib.suppress(OSError):  # no route: a packet lost
        sock.sendto(data, (there, PORT))


if __name__ == "__main__":
    main()
