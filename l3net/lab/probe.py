"""Asks pod servers, from wherever it is run. By itself, standard library alone.

Reads a JSON list of `[address, port, times, bytes]` (that many more a request), answers a JSON list of lists:
one answer (the body) a time, or `error: ...`. Every time is a connection of its own.
"""

from __future__ import annotations

import json
import socket
import sys

_SECONDS = 2.0


def ask(address: str, port: int, size: int) -> str:
    try:
        with socket.create_connection((address, port), _SECONDS) as connection:
            padding = b"X-Padding: " + b"x" * size + b"\r\n" if size else b""
            connection.sendall(b"GET / HTTP/1.0\r\n" + padding + b"\r\n")
            answer = b""
            while received := connection.recv(4096):
                answer += received
        return answer.partition(b"\r\n\r\n")[2].decode().strip() or "error: empty answer"
    except OSError as err:
        return f"error: {err.strerror or err}"


def ask_often(address: str, port: int, times: int, size: int) -> list[str]:
    """Ask again and again; after two failures in a row the rest would only cost time."""
    answers: list[str] = []
    for _ in range(times):
        answers.append(ask(address, port, size))
        if len(answers) >= 2 and all(answer.startswith("error") for answer in answers[-2:]):
            break
    return answers


def main() -> None:
    targets = json.load(sys.stdin)
    json.dump([ask_often(*target) for target in targets], sys.stdout)


if __name__ == "__main__":
    main()
