"""What a pod of the lab runs: one line a connection, over IPv4 and IPv6. By itself, standard library alone.

    pod_server.py HOST NAME PORT

Answers any HTTP request with `HOST NAME client=ADDRESS`.
"""

from __future__ import annotations

import socket
import sys


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
    server.listen(128)
    return server


def main(host: str, name: str, port: int) -> None:
    server = listener(port)
    while True:
        connection, address = server.accept()
        with connection:
            connection.settimeout(2)
            try:
                connection.recv(4096)
                text = f"{host} {name} client={address[0].removeprefix('::ffff:')}\n"
                head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
                connection.sendall((head + text).encode())
            except OSError:
                continue


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
