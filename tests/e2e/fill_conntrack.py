"""Puts connections into the table of its network namespace: `fill_conntrack.py COUNT`; 0 empties it.

They are as the kernel has those of TCP that are open (ctnetlink, linux/netfilter/nfnetlink_conntrack.h):
assured, so that none makes room for a new one. By itself, standard library alone. Prints how many there are.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from pathlib import Path

_NEW, _DELETE = 1 << 8, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW and _DELETE
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_ORIGINAL, _REPLY, _STATUS, _PROTOINFO, _TIMEOUT = 1, 2, 3, 4, 7  # enum ctattr_type
_ASSURED = 0x2 | 0x4 | 0x8  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
_ESTABLISHED = 3  # TCP_CONNTRACK_ESTABLISHED
_SECONDS = 3600
_AT_ONCE = 200


def attribute(kind: int, data: bytes, *, nested: bool = False) -> bytes:
    head = struct.pack("HH", 4 + len(data), kind | (0x8000 if nested else 0))
    return head + data + bytes(-len(data) % 4)


def endpoints(kind: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    ip = attribute(1, attribute(1, source[0]) + attribute(2, destination[0]), nested=True)
    ports = [attribute(2 + at, struct.pack("!H", each[1])) for at, each in enumerate((source, destination))]
    protocol = attribute(2, attribute(1, b"\x06") + b"".join(ports), nested=True)
    return attribute(kind, ip + protocol, nested=True)


def message(kind: int, flags: int, body: bytes = b"") -> bytes:
    body = struct.pack("!BBH", socket.AF_INET, 0, 0) + body
    return struct.pack("IHHII", 16 + len(body), kind, _REQUEST | flags, 0, 0) + body


def connection(number: int) -> bytes:
    """Between addresses of RFC 2544, each with other ports."""
    one = struct.pack("!I", 0xC6120000 + (number >> 14)), 1024 + (number & 0x3FFF)
    other = bytes((198, 19, 255, 254)), 80
    state = attribute(
        _PROTOINFO, attribute(1, attribute(1, bytes((_ESTABLISHED,))), nested=True), nested=True
    )
    more = attribute(_STATUS, struct.pack("!I", _ASSURED)) + attribute(_TIMEOUT, struct.pack("!I", _SECONDS))
    body = endpoints(_ORIGINAL, one, other) + endpoints(_REPLY, other, one) + more + state
    return message(_NEW, _CREATE, body)


def main(count: int) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:  # NETLINK_NETFILTER
        if not count:
            sock.send(message(_DELETE, _ACK))
            sock.recv(65536)
        for start in range(0, count, _AT_ONCE):
            sock.send(b"".join(map(connection, range(start, min(count, start + _AT_ONCE)))))
            with contextlib.suppress(BlockingIOError):  # refusals, once it is full
                while sock.recv(65536, socket.MSG_DONTWAIT):
                    pass
    sys.stdout.write(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


if __name__ == "__main__":
    main(int(sys.argv[1]))
