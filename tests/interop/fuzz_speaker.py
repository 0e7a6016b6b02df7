"""A BGP speaker that dials and says mutated messages: `python fuzz_speaker.py HERE THERE SEED OPENS UPDATES`.

OPENS mutated OPENs, each in a connection of its own; then UPDATES mutated UPDATEs in as many sessions as it
takes, a new one whenever the last was closed. The same seed says the same. At the end it opens a session as
a good speaker would, announces 198.51.100.0/24, and stays. Standard output: `opens N`, `updates N sessions
M`, `good`.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from wire_speaker import KEEPALIVE, NOTIFICATION, OPEN, UPDATE, message, open_message, read, say

AS_NUMBER = 65002
PORT = 179


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes([flags, code, len(value)]) + value


def good_update(prefix: bytes, more: bytes = b"") -> bytes:
    attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, bytes.fromhex("02010000fdea"))
    attributes += attribute(0x40, 3, bytes([10, 90, 0, 2])) + more
    return b"\0\0" + struct.pack("!H", len(attributes)) + attributes + prefix


def seeds() -> list[bytes]:
    """Bodies of good UPDATEs, with every attribute the agent reads and some it does not."""
    reach = bytes.fromhex("00020110" + "fd90" + "00" * 13 + "02" + "00" + "40" + "fd77" + "00" * 6)
    return [
        good_update(bytes([24, 203, 0, 113])),
        good_update(bytes([24, 203, 0, 113, 25, 203, 0, 113, 128]), attribute(0x80, 4, b"\0\0\0\7")),
        good_update(bytes([24, 203, 0, 113]), attribute(0xC0, 8, bytes.fromhex("fde9004d ffff0000"))),
        good_update(bytes([24, 203, 0, 113]), attribute(0xC0, 16, bytes.fromhex("0002fde900000001"))),
        good_update(bytes([24, 203, 0, 113]), attribute(0xC0, 32, struct.pack("!III", 65001, 1, 2))),
        good_update(bytes([24, 203, 0, 113]), attribute(0xC0, 7, bytes.fromhex("0000fdea0a5a0002"))),
        good_update(b"", attribute(0x80, 14, reach)),
        good_update(b"", attribute(0x80, 15, bytes.fromhex("000201 40 fd77000000000000"))),
        struct.pack("!H", 4) + bytes([24, 203, 0, 113]) + b"\0\0",
        b"\0\0\0\0",
    ]


def mutate(source: random.Random, body: bytes) -> bytes:
    """One to four changes: a bit, a byte, a cut, a piece twice, noise put in, or a length that lies."""
    changed = bytearray(body)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed) + 1)
        match source.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << source.randrange(8)
            case 1 if at < len(changed):
                changed[at] = source.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                del changed[at : at + source.randint(1, 8)]
            case 3:
                changed[at:at] = changed[at : at + source.randint(1, 16)]
            case 4:
                changed[at:at] = source.randbytes(source.randint(1, 12))
            case _ if len(changed) > 4:
                changed[2:4] = source.randbytes(2)
    return bytes(changed[:4000])


def dial(here: str, there: str) -> socket.socket:
    while True:
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(1.0)
        connection.bind((here, 0))
        with contextlib.suppress(OSError):
            connection.connect((there, PORT))
            return connection
        connection.close()
        time.sleep(0.02)


def establish(here: str, there: str) -> socket.socket:
    """A session as a good speaker opens it; tried again while the far side is not done with the last one."""
    while True:
        connection = dial(here, there)
        with contextlib.suppress(OSError):
            connection.sendall(open_message(AS_NUMBER, here, hold_time=90))
            while (got := read(connection)) is not None and got[0] != NOTIFICATION:
                if got[0] == OPEN:
                    connection.sendall(message(KEEPALIVE))
                elif got[0] == KEEPALIVE:
                    return connection
        connection.close()
        time.sleep(0.02)


def answer(connection: socket.socket, patience: float) -> bool:
    """Read what comes; whether the session still stands after `patience` seconds of silence."""
    connection.settimeout(patience)
    try:
        while (got := read(connection)) is not None:
            if got[0] == NOTIFICATION:
                return False
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def main() -> None:
    here, there = sys.argv[1], sys.argv[2]
    source, opens, updates = random.Random(int(sys.argv[3])), int(sys.argv[4]), int(sys.argv[5])
    good = open_message(AS_NUMBER, here)[19:]
    for _ in range(opens):
        with dial(here, there) as connection, contextlib.suppress(OSError):
            connection.sendall(message(OPEN, mutate(source, good)) + message(KEEPALIVE))
            answer(connection, 0.05)
    say(f"opens {opens}")
    bodies, sessions = seeds(), 0
    connection = None
    for _ in range(updates):
        if connection is None:
            connection = establish(here, there)
            sessions += 1
        try:
            connection.sendall(message(UPDATE, mutate(source, source.choice(bodies))))
            stands = answer(connection, 0.03)
        except OSError:
            stands = False
        if not stands:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    say(f"updates {updates} sessions {sessions}")
    connection = establish(here, there)
    connection.sendall(message(UPDATE, good_update(bytes([24, 198, 51, 100]))))
    say("good")
    while True:
        connection.sendall(message(KEEPALIVE))
        answer(connection, 2)


if __name__ == "__main__":
    main()
