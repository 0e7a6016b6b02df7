"""Packets that nftables logs to a group (nfnetlink_log), read from a socket of their own."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from l3net.errors import refusal
from l3net.ports import LoggedPacket
from l3net.shell.kernel.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
)

log = logging.getLogger(__name__)

# linux/netfilter/nfnetlink_log.h
_PACKET: Final = (4 << 8) | 0
_CONFIG: Final = (4 << 8) | 1
_CFG_CMD: Final = 1
_CFG_MODE: Final = 2
_CFG_THRESHOLD: Final = 5
_CMD_BIND: Final = 1
_COPY_PACKET: Final = 2
_PAYLOAD: Final = 9
_PREFIX: Final = 10
#: Datagrams read in one go, so that a storm does not hold up the loop.
_AT_ONCE: Final = 64
#: Octets of a packet that ends, protocol and ports are read from.
_HEAD: Final = 96


@dataclass(frozen=True, slots=True)
class Logged:
    """A packet, or as much of it as was asked for, and the prefix of the rule that logged it."""

    prefix: str
    packet: bytes


def open_group(group: int, octets: int, *, at_once: bool = False) -> socket.socket:
    """A socket, which does not block, that hears of a group's packets, so much of each. `at_once`: of each as
    it comes, not of several within a second. In the namespace of the thread. Raises OSError."""
    watching = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        watching.bind((0, 0))
        watching.settimeout(5)
        body = struct.pack("!BBH", 0, 0, group) + attribute(_CFG_CMD, bytes((_CMD_BIND,)))
        body += attribute(_CFG_MODE, struct.pack("!IBB", octets, _COPY_PACKET, 0))
        if at_once:
            body += attribute(_CFG_THRESHOLD, struct.pack("!I", 1))
        flags = NLM_F_REQUEST | NLM_F_ACK
        watching.send(HEADER.pack(HEADER.size + len(body), _CONFIG, flags, 1, 0) + body)
        for kind, _flags, _sequence, _pid, answer in messages(watching.recv(4096)):
            if kind == NLMSG_ERROR and (code := -struct.unpack_from("=i", answer)[0]):
                raise OSError(code, "nfnetlink_log")
        watching.setblocking(False)
    except OSError:
        watching.close()
        raise
    return watching


def read_group(watching: socket.socket) -> Iterator[Logged]:
    """What has come to such a socket, some of it if it is much. What was lost on the way is not told of."""
    for _ in range(_AT_ONCE):
        try:
            data = watching.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # some were lost (ENOBUFS)
            continue
        for kind, _flags, _sequence, _pid, body in messages(data):
            if kind == _PACKET:
                found = dict(attributes(body[4:]))
                if _PAYLOAD in found:
                    prefix = bytes(found.get(_PREFIX, b"")).rstrip(b"\0").decode(errors="replace")
                    yield Logged(prefix, bytes(found[_PAYLOAD]))


class PacketLog:
    """A ports.PacketLog on one group, for one event loop."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._socket: socket.socket | None = None
        self.problem = ""

    def start(self, heard: Callable[[LoggedPacket], None]) -> None:
        """See ports.PacketLog."""
        if self._socket is not None:
            return
        try:
            opened = self._socket = open_group(self._group, _HEAD, at_once=True)
        except OSError as err:
            self.problem = f"packets that policies drop are not logged (NFLOG group {self._group}): "
            self.problem += refusal(err)
            return
        self.problem = ""

        def read() -> None:
            for each in read_group(opened):
                heard(LoggedPacket(time.time(), each.prefix, each.packet))

        asyncio.get_running_loop().add_reader(opened, read)

    def stop(self) -> None:
        """See ports.PacketLog."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self.problem = ""
