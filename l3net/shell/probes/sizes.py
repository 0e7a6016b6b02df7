"""Whether packets of a size come to a host and back: two echo requests (RFC 792, RFC 4443), a small one and
one of that size which nobody may fragment. Path MTUs that the kernel has learned do not matter.

In the network namespace of the thread that asks.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import time
from contextlib import suppress
from typing import Final

from l3net.explain.facts import Passage
from l3net.model import Address

#: Times that both are sent, and seconds for the answers of each.
TRIES: Final = 3
WAIT: Final = 0.3
_SMALL: Final = 100  # bytes
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE = 10, 23, 3  # linux/in.h, linux/in6.h: IP_PMTUDISC_PROBE
_ECHO: Final = {4: (8, 0), 6: (128, 129)}  # request, reply
_TOO_BIG: Final = {4: (3, 4), 6: (2, 0)}  # type and code: fragmentation needed, packet too big
_HEADER: Final = {4: 20, 6: 40}
_numbers = itertools.count()


def passage(address: Address, size: int) -> Passage | None:
    """Of packets of `size` bytes, the IP header among them; None: it cannot be asked."""
    version = address.version
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    mark = os.getpid() & 0xFFFF
    small, big = ((next(_numbers) & 0xFFFF) for _ in range(2))
    try:
        with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
            if version == 4:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
            seen: set[int] = set()
            for _ in range(TRIES):
                for number, length in ((small, _SMALL), (big, size)):
                    sock.sendto(_request(version, mark, number, length), (str(address), 0))
                deadline = time.monotonic() + WAIT
                while (left := deadline - time.monotonic()) > 0:
                    sock.settimeout(left)
                    with suppress(TimeoutError):
                        data = sock.recv(2048)
                        number, told = _read(version, data[_HEADER[4] if version == 4 else 0 :], mark)
                        seen.add(number)
                        if number == big:
                            return Passage(size, told=told)
            return Passage(size, lost=True) if small in seen else Passage(size, silent=True)
    except OSError as err:
        return Passage(size, told=0) if err.errno == errno.EMSGSIZE else None


def _request(version: int, mark: int, number: int, size: int) -> bytes:
    kind = _ECHO[version][0]
    payload = bytes(size - _HEADER[version] - 8)
    head = struct.pack("!BBHHH", kind, 0, 0, mark, number)
    if version == 6:  # the kernel puts in the checksum
        return head + payload
    total = sum(struct.unpack("!4H", head))  # the payload is nought
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", kind, 0, ~total & 0xFFFF, mark, number) + payload


def _read(version: int, data: bytes, mark: int) -> tuple[int, int | None]:
    """Which request is answered (-1: none of ours), and the MTU that a router tells."""
    told = None
    if len(data) >= 8 and (data[0], data[1]) == _TOO_BIG[version]:
        told = struct.unpack_from("!H", data, 6)[0] if version == 4 else struct.unpack_from("!I", data, 4)[0]
        data = data[8 + _HEADER[version] :]
        if len(data) < 8 or data[0] != _ECHO[version][0]:
            return -1, None
    elif len(data) < 8 or data[0] != _ECHO[version][1]:
        return -1, None
    its, number = struct.unpack_from("!HH", data, 4)
    return (number, told) if its == mark else (-1, None)
