"""Requests from many ports to one address, and those that are answered.

    udp_echo.py serve ADDRESS PORT
    udp_echo.py ask ADDRESS PORT RATE FILE

`ask` sends RATE requests a second until FILE.stop exists, waits for late answers, and writes `SENT ANSWERED`
to FILE. FILE.begun exists once a request was answered on every port.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
import time

PORTS = 32
LINGER = 1.5


def serve(address: str, port: int) -> None:
    sock = socket.socket(_family(address), socket.SOCK_DGRAM)
    sock.bind((address, port))
    while True:
        data, back = sock.recvfrom(64)
        sock.sendto(data, back)


def ask(address: str, port: int, rate: int, file: str) -> None:
    selector = selectors.DefaultSelector()
    sockets = []
    for _ in range(PORTS):
        sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((address, port))
        selector.register(sock, selectors.EVENT_READ)
        sockets.append(sock)
    answered: set[int] = set()
    heard: set[int] = set()

    def receive(until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                try:
                    answered.update(struct.unpack("!i", key.fileobj.recv(64)))  # type: ignore[union-attr]
                except OSError:  # an ICMP error's echo
                    continue
                heard.add(key.fd)

    def send(number: int) -> None:
        with contextlib.suppress(OSError):
            sockets[number % PORTS].send(struct.pack("!i", number))

    number = -1
    while len(heard) < PORTS:  # the first packets of all are not counted
        send(number)
        number -= 1
        receive(time.monotonic() + 0.005)
    _touch(f"{file}.begun")
    answered.clear()
    begun, number = time.monotonic(), 0
    while not os.path.exists(f"{file}.stop"):  # noqa: PTH110 - few imports: it starts fast
        send(number)
        number += 1
        receive(begun + number / rate)
    receive(time.monotonic() + LINGER)
    with open(f"{file}.tmp", "w") as handle:  # noqa: PTH123
        handle.write(f"{number} {len({each for each in answered if each >= 0})}\n")
    os.rename(f"{file}.tmp", file)  # noqa: PTH104


def _touch(path: str) -> None:
    with open(path, "w"):  # noqa: PTH123
        pass


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
