"""What a pod of the lab runs: one line a connection, over IPv4 and IPv6. By itself, standard library alone.

    pod_server.py HOST NAME PORT

Answers any HTTP request with `HOST NAME client=ADDRESS`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

#: Seconds that a connection may wait for its request.
_PATIENCE = 300.0


def listener(port: int) -> socket.socket:
    """A dual-stack socket, or an IPv4 one where the kernel has no IPv6."""
    try:
        server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        anywhere = "::"
    except OSError:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        anywhere = "0.0.0.0"  # noqa: S104 - the pod's own network namespace
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((anywhere, port))
    server.listen(512)
    return server


def main(host: str, name: str, port: int) -> None:
    server = listener(port)
    while True:
        connection, address = server.accept()
        client = address[0].removeprefix("::ffff:")
        threading.Thread(target=answer, args=(connection, host, name, client), daemon=True).start()


def answer(connection: socket.socket, host: str, name: str, client: str) -> None:
    """One request, which may be long in coming."""
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_PATIENCE)
        if not connection.recv(4096):
            return
        text = f"{host} {name} client={client}\n"
        head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
        connection.sendall((head + text).encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
