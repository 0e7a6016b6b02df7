"""Which of some addresses answer an echo request (RFC 792, RFC 4443), all asked at once."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from l3net.errors import KernelError
from l3net.model import Address

#: Times that an address without an answer is asked, and seconds between them.
TRIES: Final = 3
WAIT: Final = 1.0
_HEADER: Final = struct.Struct("!BBHHH")
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}


def answering(addresses: Collection[Address]) -> set[Address]:
    """Raises KernelError where no socket can be had."""
    found: set[Address] = set()
    for version in (4, 6):
        asked = {each for each in addresses if each.version == version}
        if asked:
            found |= _answering(asked, version)
    return found


def _answering(asked: set[Address], version: int) -> set[Address]:
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    found: set[Address] = set()
    mark = os.getpid() & 0xFFFF
    try:
        with socket.socket(family, socket.SOCK_RAW, protocol) as door:
            for turn in range(TRIES):
                for each in asked - found:
                    try:
                        door.sendto(_request(version, mark, turn), (str(each), 0))
                    except OSError:  # no route, or nobody there: no answer either
                        continue
                deadline = time.monotonic() + WAIT
                while found != asked and (left := deadline - time.monotonic()) > 0:
                    if select.select([door], [], [], left)[0]:
                        body, (source, *_) = door.recvfrom(2048)
                        if _is_reply(body, version, mark):
                            found |= {ip_address(str(source).partition("%")[0])} & asked
    except OSError as err:
        raise KernelError("ask for echoes", err.errno or 0) from err
    return found


def _request(version: int, mark: int, turn: int) -> bytes:
    """An IPv6 raw socket sums itself."""
    body = _HEADER.pack(_REQUEST[version], 0, 0, mark, turn)
    if version == 6:
        return body
    total = sum(struct.unpack("!4H", body))
    total = (total >> 16) + (total & 0xFFFF)
    return _HEADER.pack(_REQUEST[version], 0, ~total & 0xFFFF, mark, turn)


def _is_reply(body: bytes, version: int, mark: int) -> bool:
    if version == 4 and body:
        body = body[(body[0] & 0x0F) * 4 :]
    if len(body) < _HEADER.size:
        return False
    kind, _, _, told, _ = _HEADER.unpack_from(body)
    return bool(kind == _REPLY[version] and told == mark)
