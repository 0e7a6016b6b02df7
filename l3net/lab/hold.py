"""Holds connections open, from wherever it is run. By itself, standard library alone.

    hold.py ADDRESS PORT COUNT

Says `open COUNT` when so many are; asks on each of them when it is interrupted (SIGINT), and says one answer
(the body) a line, or `error: ...`.
"""

from __future__ import annotations

import signal
import socket
import sys

_SECONDS = 5.0


def opened(address: str, port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection((address, port), _SECONDS) for _ in range(count)]


def ask(connection: socket.socket) -> str:
    try:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while received := connection.recv(4096):
            answer += received
        return answer.partition(b"\r\n\r\n")[2].decode().strip() or "error: empty answer"
    except OSError as err:
        return f"error: {err.strerror or err}"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(address: str, port: int, count: int) -> None:
    held = opened(address, port, count)
    say(f"open {count}")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.sigwait({signal.SIGINT})
    for connection in held:
        say(ask(connection))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
