"""A BGP speaker that says exactly the bytes it is told to: run as `python wire_speaker.py ADDRESS AS FILE`.

FILE holds one hex-encoded BGP message a line; they are sent once the session is established, and again on
every route refresh (RFC 2918). With a fourth argument, the first N of them go to the first session
alone. With a fifth, graceful restart is offered for as many seconds (RFC 4724), with the F bits set; no
End-of-RIB follows but one that FILE holds. With `deaf` as the sixth, no route refresh is answered.
Standard output tells what happened: `established`, `sent N`, `refresh asked`, `notification CODE SUBCODE`,
`closed`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def open_message(as_number: int, address: str, hold_time: int = 9, restart_time: int = 0) -> bytes:
    capabilities = [
        (1, struct.pack("!HBB", 1, 0, 1)),  # multiprotocol, IPv4 unicast
        (1, struct.pack("!HBB", 2, 0, 1)),  # and IPv6
        (2, b""),  # route refresh
        (65, struct.pack("!I", as_number)),
    ]
    if restart_time:
        families = b"".join(struct.pack("!HBB", afi, 1, 0x80) for afi in (1, 2))
        capabilities.append((64, struct.pack("!H", restart_time) + families))
    packed = b"".join(struct.pack("!BB", code, len(value)) + value for code, value in capabilities)
    parameters = struct.pack("!BB", 2, len(packed)) + packed
    short = as_number if as_number < 65536 else 23456
    router_id = socket.inet_aton(address) if "." in address else b"\x0a\x5a\x00\x02"
    return message(OPEN, struct.pack("!BHH4sB", 4, short, hold_time, router_id, len(parameters)) + parameters)


def read(connection: socket.socket) -> tuple[int, bytes] | None:
    header = b""
    while len(header) < 19:
        chunk = connection.recv(19 - len(header))
        if not chunk:
            return None
        header += chunk
    length, kind = struct.unpack("!HB", header[16:])
    body = b""
    while len(body) < length - 19:
        chunk = connection.recv(length - 19 - len(body))
        if not chunk:
            return None
        body += chunk
    return kind, body


def serve(
    connection: socket.socket,
    address: str,
    as_number: int,
    lines: list[bytes],
    restart_time: int,
    deaf: bool = False,
) -> None:
    connection.settimeout(1.0)
    connection.sendall(open_message(as_number, address, restart_time=restart_time))
    established, sent, last = False, 0, time.monotonic()
    while True:
        with contextlib.suppress(TimeoutError):
            got = read(connection)
            if got is None:
                say("closed")
                return
            kind, body = got
            if kind == OPEN:
                connection.sendall(message(KEEPALIVE))
            elif kind == NOTIFICATION:
                say(f"notification {body[0]} {body[1]}")
            elif kind == KEEPALIVE and not established:
                established = True
                say("established")
            if kind == ROUTE_REFRESH:
                say("refresh asked")
            if (kind == KEEPALIVE and not sent) or (kind == ROUTE_REFRESH and not deaf):
                connection.sendall(b"".join(lines))
                sent += len(lines)
                say(f"sent {sent}")
        if established and time.monotonic() - last > 2:
            connection.sendall(message(KEEPALIVE))
            last = time.monotonic()


def main() -> None:
    address, as_number, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(file) as handle:  # noqa: PTH123 - runs with the standard library alone, early
        lines = [bytes.fromhex(line) for line in handle.read().split()]
    family = socket.AF_INET if "." in address else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 179))
    listener.listen()
    once = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    restart_time = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    deaf = sys.argv[6:] == ["deaf"]
    while True:
        connection, _ = listener.accept()
        try:
            serve(connection, address, as_number, lines, restart_time, deaf)
        except OSError:  # reset, as what the other side has not read makes of a close
            say("closed")
        connection.close()
        lines, once = lines[once:], 0


if __name__ == "__main__":
    main()
