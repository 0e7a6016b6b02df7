"""UDP for BFD: the ports all sessions are heard on, and one socket to send from for each (RFC 5881, 5883)."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from l3net.bfd.control import WantedSession
from l3net.errors import KernelError
from l3net.model import Address

SINGLE_HOP_PORT: Final = 3784
MULTIHOP_PORT: Final = 4784
#: RFC 5881 section 4: each session has a source port of its own, out of these.
SOURCE_PORTS: Final = range(49152, 65536)
MAX_TTL: Final = 255
#: Network control (RFC 4594), so that a full queue drops BFD last.
TRAFFIC_CLASS: Final = 0xC0
PRIORITY: Final = 6
LONGEST_PACKET: Final = 512
#: linux/in.h and linux/in6.h; the socket module lacks them.
IP_PKTINFO: Final = 8
IP_RECVTTL: Final = 12
IP_FREEBIND: Final = 15
IPV6_FREEBIND: Final = 78
_PORT_TRIES: Final = 64
_ANCILLARY: Final = 256
_INT: Final = struct.Struct("i")
#: asm-generic/socket.h, and struct timespec of a 64-bit machine; the socket module lacks both.
SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")


@dataclass(frozen=True, slots=True)
class Datagram:
    """What came in. `interface` is the index of the link it came by, `age` the seconds it has waited here."""

    payload: bytes
    source: Address
    destination: Address
    interface: int
    ttl: int
    age: float = 0.0


def listen(family: int, port: int) -> socket.socket:
    """A non-blocking socket on a BFD port, all addresses. Raises KernelError."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # without it a datagram counts from when it is read
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.bind(("::", port))
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            sock.bind(("0.0.0.0", port))  # noqa: S104 - what no session accepts is dropped
    except OSError as err:
        sock.close()
        raise KernelError(f"UDP port {port} for BFD (does another BFD daemon run?)", err.errno or 0) from err
    return sock


def age_of(ancillary: Iterable[tuple[int, int, bytes]], now: float) -> float:
    """The seconds since the kernel took a datagram in; `now` is the wall clock's. 0 if it does not say."""
    for level, kind, content in ancillary:
        if (level, kind, len(content)) == (socket.SOL_SOCKET, SO_TIMESTAMPNS, _TIMESPEC.size):
            seconds, nanoseconds = _TIMESPEC.unpack(content)
            return max(0.0, now - (int(seconds) + int(nanoseconds) / 1e9))
    return 0.0


def receive(sock: socket.socket, at_most: int) -> Iterator[Datagram]:
    """What waits on the socket, so many datagrams at the most."""
    for _ in range(at_most):
        try:
            payload, ancillary, _flags, sender = sock.recvmsg(LONGEST_PACKET, _ANCILLARY)
        except OSError:  # nothing more, or an error of one datagram
            return
        destination: Address | None = None
        interface, ttl = 0, 0
        for level, kind, content in ancillary:
            if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                interface, destination = _INT.unpack_from(content)[0], IPv4Address(content[8:12])
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                interface, destination = _INT.unpack_from(content, 16)[0], IPv6Address(content[:16])
            elif (level, kind) in (
                (socket.IPPROTO_IP, socket.IP_TTL),
                (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
            ):
                ttl = _INT.unpack_from(content)[0]
        if destination is not None:
            source = ip_address(str(sender[0]).partition("%")[0])
            yield Datagram(payload, source, destination, interface, ttl, age_of(ancillary, time.time()))


class Outlet:
    """A socket for one session. Opened anew after an error, since its link may have gone and come back."""

    def __init__(self, wanted: WantedSession, port: int) -> None:
        self._wanted = wanted
        self._port = port
        self._socket: socket.socket | None = None
        self._target: tuple[str, int] | tuple[str, int, int, int] = (str(wanted.peer), port)
        self.problem = ""

    def _aim(self) -> int:
        """Fill in the scope of a link-local target; the index of the session's link, 0 for none."""
        wanted = self._wanted
        scope = socket.if_nametoindex(wanted.interface) if wanted.interface is not None else 0
        if wanted.peer.version == 6:
            self._target = (str(wanted.peer), self._port, 0, scope if wanted.peer.is_link_local else 0)
        return scope

    def send(self, payload: bytes) -> None:
        """A packet that cannot be sent is lost, as on the wire."""
        try:
            if self._socket is None:
                self._socket = self._open()
            self._socket.sendto(payload, self._target)
            self.problem = ""
        except BlockingIOError:
            pass
        except OSError as err:
            self.problem = err.strerror or str(err)
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        raise NotImplementedError


class Sender(Outlet):
    """Sends one session's Control packets."""

    def __init__(self, wanted: WantedSession, inherited: int | None = None) -> None:
        """`inherited` is the descriptor of the socket a former process sent this session's packets from."""
        super().__init__(wanted, MULTIHOP_PORT if wanted.multihop else SINGLE_HOP_PORT)
        if inherited is not None:
            self._socket = socket.socket(fileno=inherited)
            self._socket.set_inheritable(False)
            self._aim()

    def handed_over(self) -> int | None:
        """The descriptor of the socket, inheritable; None if there is none."""
        if self._socket is None:
            return None
        self._socket.set_inheritable(True)
        return self._socket.fileno()

    def _open(self) -> socket.socket:
        wanted = self._wanted
        six = wanted.peer.version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            scope = self._aim()
            if wanted.interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted.interface.encode() + b"\0")
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, MAX_TTL)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TRAFFIC_CLASS)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, MAX_TTL)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TRAFFIC_CLASS)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY)
            self._bind(sock, scope if wanted.local.is_link_local else 0)
        except OSError:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket, scope: int) -> None:
        """A source port nobody has; the kernel says whether one is taken."""
        address = str(self._wanted.local)
        for attempt in range(_PORT_TRIES):
            port = random.choice(SOURCE_PORTS)  # noqa: S311 - no secret
            try:
                sock.bind((address, port, 0, scope) if self._wanted.local.version == 6 else (address, port))
            except OSError:
                if attempt == _PORT_TRIES - 1:
                    raise
            else:
                return
