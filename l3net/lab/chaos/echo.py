"""Sends back what it is sent, UDP and TCP, over IPv4 and IPv6. By itself, standard library alone.

echo.py PORT
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time

#: Seconds between looks: whoever asks waits for much longer, and a wake-up for each packet costs more than
#: the answer.
_PAUSE = 0.01
_ROOM = 4 << 20
#: SO_RCVBUFFORCE (asm-generic/socket.h): what Python's socket module does not name.
_FORCE = 33


def opened(kind: socket.SocketKind, port: int) -> socket.socket:
    it = socket.socket(socket.AF_INET6, kind)
    it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind(("::", port))
    it.setblocking(False)
    return it


def main(port: int) -> None:
    udp, tcp = opened(socket.SOCK_DGRAM, port), opened(socket.SOCK_STREAM, port)
    udp.setsockopt(socket.SOL_SOCKET, _FORCE, _ROOM)
    tcp.listen(512)
    ready = selectors.DefaultSelector()
    ready.register(udp, selectors.EVENT_READ)
    ready.register(tcp, selectors.EVENT_READ)
    while True:
        time.sleep(_PAUSE)
        for key, _ in ready.select():
            it = key.fileobj
            assert isinstance(it, socket.socket)  # noqa: S101
            if it is udp:
                back(udp)
            elif it is tcp:
                with contextlib.suppress(OSError):
                    connection, _ = tcp.accept()
                    connection.setblocking(False)
                    ready.register(connection, selectors.EVENT_READ)
            elif not returned(it):
                ready.unregister(it)
                it.close()


def back(udp: socket.socket) -> None:
    """Everything that waits. What cannot be sent is lost, as on a wire."""
    while True:
        try:
            said, whom = udp.recvfrom(2048)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error about an answer of ours
            continue
        with contextlib.suppress(OSError):
            udp.sendto(said, whom)


def returned(connection: socket.socket) -> bool:
    """What a connection says, back into it; whether it stays open."""
    try:
        said = connection.recv(4096)
        if said:
            connection.sendall(said)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return bool(said)


if __name__ == "__main__":
    main(int(sys.argv[1]))
