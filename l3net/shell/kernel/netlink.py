"""A plain NETLINK socket: batches of requests with one answer each, and dumps that are whole or repeated.

Messages are pyroute2's (their codec is the library's) or bodies packed by the caller; the socket is opened
in the network namespace of the calling thread, which costs microseconds and no process.
"""

from __future__ import annotations

import _socket as socket  # without its enumerations, which take 2 ms
import errno
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from l3net.errors import KernelError

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
_ACKNOWLEDGED: Final = NLM_F_REQUEST | NLM_F_ACK
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

#: The protocol of nftables, conntrack and nflog (linux/netlink.h).
NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_CAP_ACK: Final = 10
NETLINK_GET_STRICT_CHK: Final = 12

HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
_ERRNO: Final = struct.Struct("=i")
_pack_attribute: Final = ATTRIBUTE.pack
#: What fills a length up to four octets, by its remainder.
_PADDING: Final = (b"", bytes(3), bytes(2), bytes(1))

#: linux/netfilter/nfnetlink.h: what stands around the messages of one transaction.
NFNL_BATCH_BEGIN: Final = 16
NFNL_BATCH_END: Final = 17

_RECEIVE_BUFFER = 1 << 20
#: Octets of a datagram that a socket takes as it is.
_SEND_BUFFER = 100_000
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; needs CAP_NET_ADMIN, as whatever is sent does
#: The kernel fills datagrams of at most 32 KiB (netlink_dump); a larger buffer is mapped anew at every call.
_DATAGRAM = 1 << 16
#: Requests sent before their answers are read: bounded so that the answers fit the receive buffer.
_BATCH = 256
#: The same of a socket with `_ROOM`: the thread that sends them takes the interpreter back once, not often.
_MANY = 4096
_ROOM = 8 << 20
_SO_RCVBUFFORCE = 33
_DUMP_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """A netlink message: `body` is the family header and the attributes, packed."""

    type: int
    flags: int
    body: bytes

    @staticmethod
    def of(message: Any, message_type: int, flags: int) -> Request:
        """Encode a pyroute2 message, for example `ifinfmsg`."""
        message["header"]["type"] = message_type
        message["header"]["flags"] = flags
        message.encode()
        return Request(message_type, flags, bytes(message.data[HEADER.size :]))


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr, padded to four bytes (rtnetlink(7))."""
    length = 4 + len(value)
    return _pack_attribute(length, kind) + value + _PADDING[length & 3]


def attributes(data: memoryview | bytes) -> Iterator[tuple[int, memoryview]]:
    """The attributes of a message body after its family header."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at + 4 <= end:  # offsets, not slices: this runs a hundred times for a pod
        length, kind = ATTRIBUTE.unpack_from(view, at)
        if length < 4 or at + length > end:
            return
        yield kind & 0x3FFF, view[at + 4 : at + length]
        at += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """Split a datagram: (type, flags, sequence number, port, body) of each message."""
    view = memoryview(data)
    while len(view) >= HEADER.size:
        length, kind, flags, sequence, port = HEADER.unpack_from(view)
        if length < HEADER.size or length > len(view):
            return
        yield kind, flags, sequence, port, view[HEADER.size : length]
        view = view[(length + 3) & ~3 :]


@dataclass(frozen=True, slots=True)
class Packed:
    """Datagrams, each with the sequence number of its last request, and the number of the first of all."""

    first: int
    datagrams: list[tuple[bytes, int]]


class Netlink:
    """One socket, for one thread at a time; another may pack meanwhile. Raises KernelError when the socket
    itself fails.

    `strict`: what a dump's request says of the objects is what the kernel picks (Linux 4.20).
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE, *, strict: bool = False) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            if strict:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        except OSError as err:
            raise KernelError("open netlink socket", err.errno or errno.EIO) from err
        self._sequence = 0
        self._numbering = threading.Lock()  # requests are made ready while others are carried out
        self._room: bool | None = None

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The port that notifications of what this socket changed carry (struct nlmsghdr, nlmsg_pid)."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def transact(self, requests: Sequence[Request]) -> list[int]:
        """Send requests in order; the errno of each, 0 for success.

        Only the last of a batch asks to be acknowledged: the kernel carries them out in order and reports a
        failure unasked, so what was not complained about by then has succeeded (netlink_rcv_skb).
        """
        results: list[int] = []
        for start in range(0, len(requests), _BATCH):
            results += self._batch(requests[start : start + _BATCH])
        return results

    def pack_alike(self, kind: int, flags: Sequence[int], bodies: Sequence[bytes]) -> Packed:
        """Many requests of one type, made ready to be sent, each body a multiple of four octets."""
        size, pack, first = HEADER.size, HEADER.pack, self._reserve(len(bodies))
        most = _MANY if len(bodies) > _BATCH and self._has_room() else _BATCH
        datagrams: list[tuple[bytes, int]] = []
        for start in range(0, len(bodies), most):
            sequence, parts = first + start - 1, []
            for flag, body in zip(flags[start : start + most], bodies[start : start + most], strict=True):
                sequence += 1
                parts.append(pack(size + len(body), kind, flag | NLM_F_REQUEST, sequence, 0))
                parts.append(body)
            parts[-2] = pack(
                size + len(parts[-1]), kind, flags[start + len(parts) // 2 - 1] | _ACKNOWLEDGED, sequence, 0
            )
            datagrams.append((b"".join(parts), sequence))
        return Packed(first, datagrams)

    def transact_packed(self, packed: Packed) -> dict[int, int]:
        """As `transact`; by their place, the errno of those that were refused."""
        refused: dict[int, int] = {}
        for octets, last in packed.datagrams:
            self._send_octets(octets)
            refused.update(self._answers(last, packed.first))
        return refused

    def transact_alike(self, kind: int, flags: Sequence[int], bodies: Sequence[bytes]) -> dict[int, int]:
        """`pack_alike`, and `transact_packed`."""
        return self.transact_packed(self.pack_alike(kind, flags, bodies))

    def _reserve(self, count: int) -> int:
        """The first of so many sequence numbers that no other request has."""
        with self._numbering:
            first, self._sequence = self._sequence + 1, self._sequence + count
        return first

    def _has_room(self) -> bool:
        """Whether the answers to many requests fit, should all be refused."""
        if self._room is None:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            except OSError:  # without CAP_NET_ADMIN outside of this user namespace
                self._room = False
            else:
                self._room = True
        return self._room

    def _answers(self, last: int, first: int) -> Iterator[tuple[int, int]]:
        """What was refused up to the request that is acknowledged, by its place behind the `first`."""
        while True:
            for kind, _flags, sequence, _port, body in messages(self._receive()):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                code = -_ERRNO.unpack_from(body)[0]
                if code:
                    yield sequence - first, code
                if sequence == last:
                    return

    def commit(self, requests: Sequence[Request], subsystem: int) -> int:
        """One transaction of a netfilter subsystem, all or nothing; the errno of what was refused, or 0.

        The last request asks to be acknowledged, which it is when all is in force. What the kernel refuses as
        a whole it says of the first message (nfnetlink_rcv_batch).
        """
        around = bytes((0, 0)) + subsystem.to_bytes(2, "big")
        batch = [Request(NFNL_BATCH_BEGIN, 0, around), *requests]
        batch[-1] = Request(batch[-1].type, batch[-1].flags | NLM_F_ACK, batch[-1].body)
        first = self._send([*batch, Request(NFNL_BATCH_END, 0, around)], ack=False)
        failed = 0
        while True:
            for kind, _flags, sequence, _port, body in messages(self._receive()):
                if kind != NLMSG_ERROR or not first <= sequence < first + len(batch):
                    continue
                failed = failed or -_ERRNO.unpack_from(body)[0]
                if sequence in (first, first + len(batch) - 1):
                    return failed

    def request(self, request: Request, what: str) -> None:
        """One request that must succeed; `what` names it in the KernelError."""
        code = self.transact([request])[0]
        if code:
            raise KernelError(what, code)

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        """All objects of a kind, as (message type, body); repeated while interrupted by a change."""
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(request)
            if found is not None:
                return found
        raise KernelError("netlink dump kept being interrupted", errno.EINTR)

    def get(self, request: Request) -> tuple[int, bytes]:
        """One object, as (message type, body). Raises KernelError with the kernel's errno."""
        sequence = self._send([request], ack=False)
        while True:
            for kind, _flags, seen, _port, body in messages(self._receive()):
                if seen != sequence:
                    continue
                if kind == NLMSG_ERROR:
                    raise KernelError("netlink get", -_ERRNO.unpack_from(body)[0])
                return kind, bytes(body)

    def _send(self, batch: Sequence[Request], *, ack: bool) -> int:
        first = self._reserve(len(batch))
        last = first + len(batch) - 1 if ack else 0
        parts: list[bytes] = []
        pack, size = HEADER.pack, HEADER.size
        for sequence, request in enumerate(batch, first):
            body, flags = request.body, request.flags | NLM_F_REQUEST
            if sequence == last:
                flags |= NLM_F_ACK
            parts += pack(size + len(body), request.type, flags, sequence, 0), body, _PADDING[len(body) & 3]
        self._send_octets(b"".join(parts))
        return first

    def _send_octets(self, sent: bytes) -> None:
        try:
            if len(sent) > _SEND_BUFFER:  # a batch is one datagram
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(sent))
            self._socket.send(sent)
        except OSError as err:
            raise KernelError("netlink send", err.errno or errno.EIO) from err

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_DATAGRAM)
        except OSError as err:
            raise KernelError("netlink receive", err.errno or errno.EIO) from err

    def _batch(self, batch: Sequence[Request]) -> list[int]:
        first = self._send(batch, ack=True)
        codes = [0] * len(batch)
        waiting = True
        while waiting:
            for kind, _flags, sequence, _port, body in messages(self._receive()):
                index = sequence - first
                if kind == NLMSG_ERROR and 0 <= index < len(batch):
                    codes[index] = -_ERRNO.unpack_from(body)[0]
                    waiting = waiting and index != len(batch) - 1
        return codes

    def _dump_once(self, request: Request) -> list[tuple[int, bytes]] | None:
        sequence = self._send([Request(request.type, request.flags | NLM_F_DUMP, request.body)], ack=False)
        found: list[tuple[int, bytes]] = []
        interrupted = False
        while True:
            for kind, flags, seen, _port, body in messages(self._receive()):
                if seen != sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    return None if interrupted else found
                if kind == NLMSG_ERROR:
                    raise KernelError("netlink dump", -_ERRNO.unpack_from(body)[0])
                found.append((kind, bytes(body)))
