"""Sockets of the BFD Echo function (RFC 5881 section 4): what is sent, what comes back, what is given back.

An Echo packet bears the node's own address as source and destination, so that no ordinary socket sends it,
and no kernel takes it in again: raw sockets send, packet sockets with a filter see what returns. Over IPv6
those of FRR go to the peer's BFD instead, which is to return them, and so do ours between link-local
addresses, since nobody forwards these. That is what `EchoPorts` gives back.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from l3net.bfd.control import WantedSession
from l3net.bfd.echo_packet import ECHO_PORT, RETURNED_TTL, TRAFFIC_CLASS, echo_packet, payload_of
from l3net.bfdd.sockets import (
    LONGEST_PACKET,
    PRIORITY,
    SO_TIMESTAMPNS,
    SOURCE_PORTS,
    Datagram,
    Outlet,
    age_of,
    listen,
    receive,
)
from l3net.errors import KernelError
from l3net.shell.kernel.socketfilter import Statement, attach_filter

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
_PACKET_INFO: Final = struct.Struct("@16sI")  # struct in6_pktinfo
_INT: Final = struct.Struct("@i")
_UDP: Final = 17


#: Classic BPF from the IP header on: UDP to the Echo port, one hop into its way, whole.
_FILTER: Final[Mapping[int, Sequence[Statement]]] = {
    ETH_P_IP: (
        (0x30, 0, 0, 9),  # ldb [protocol]
        (0x15, 0, 8, _UDP),
        (0x30, 0, 0, 8),  # ldb [TTL]
        (0x15, 0, 6, RETURNED_TTL),
        (0x28, 0, 0, 6),  # ldh [fragment]
        (0x45, 4, 0, 0x3FFF),
        (0xB1, 0, 0, 0),  # ldx 4 * header length
        (0x48, 0, 0, 2),  # ldh [x + destination port]
        (0x15, 0, 1, ECHO_PORT),
        (0x06, 0, 0, 0xFFFFFFFF),  # ret: all of it
        (0x06, 0, 0, 0),  # ret: nothing
    ),
    ETH_P_IPV6: (
        (0x30, 0, 0, 6),  # ldb [next header]
        (0x15, 0, 5, _UDP),
        (0x30, 0, 0, 7),  # ldb [hop limit]
        (0x15, 0, 3, RETURNED_TTL),
        (0x28, 0, 0, 42),  # ldh [destination port]
        (0x15, 0, 1, ECHO_PORT),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    ),
}


class EchoSender(Outlet):
    """Sends one session's Echo packets."""

    def __init__(self, wanted: WantedSession) -> None:
        super().__init__(wanted, 0)  # of a raw socket
        # FRR gives back to the port that a packet came from.
        given_back = wanted.local.version == 6 and wanted.local.is_link_local
        self._source_port = ECHO_PORT if given_back else random.choice(SOURCE_PORTS)  # noqa: S311 - no secret

    def send(self, payload: bytes) -> None:
        """A packet that cannot be sent is lost, as on the wire."""
        # The kernel finds the neighbour by the peer's address, whatever the packet's own header says.
        super().send(echo_packet(self._wanted.local, self._wanted.peer, self._source_port, payload))

    def _open(self) -> socket.socket:
        wanted = self._wanted
        family = socket.AF_INET6 if wanted.peer.version == 6 else socket.AF_INET
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(family, kind, socket.IPPROTO_RAW)
        try:
            self._aim()
            if wanted.interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted.interface.encode() + b"\0")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY)
        except OSError:
            sock.close()
            raise
        return sock


def _watch(protocol: int) -> socket.socket:
    """A packet socket for the Echo packets of a family that come back, on all links. Raises KernelError."""
    try:
        # What comes before the filter is in place is no Echo packet of ours, and is dropped as such.
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    except OSError as err:
        raise KernelError("no packet socket for BFD Echo (CAP_NET_RAW)", err.errno or 0) from err
    try:
        attach_filter(sock, *_FILTER[protocol])
        with contextlib.suppress(OSError):  # without it a packet counts from when it is read
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError as err:
        sock.close()
        raise KernelError("packet socket for BFD Echo", err.errno or 0) from err
    return sock


class EchoPorts:
    """Where Echo packets come in, for all sessions; open while one wants any. Registers with `epoll`.

    `takes` says whether a packet of a peer's is to be given back.
    """

    def __init__(self, epoll: select.epoll, takes: Callable[[Datagram], bool], at_once: int) -> None:
        self._epoll = epoll
        self._takes = takes
        self._at_once = at_once
        self._sockets: dict[int, socket.socket] = {}  # by descriptor
        self._watched: dict[int, socket.socket] = {}  # for what comes back, by protocol
        self._given: socket.socket | None = None  # for what is to be given back

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._sockets

    def want(self, wanted: Collection[WantedSession]) -> list[str]:
        """Be open for these sessions and no more; what cannot be had."""
        problems = []
        sending = {
            ETH_P_IPV6 if each.peer.version == 6 else ETH_P_IP for each in wanted if each.echo_transmit
        }
        for protocol in self._watched.keys() - sending:
            self._close(self._watched.pop(protocol))
        for protocol in sending - self._watched.keys():
            try:
                self._watched[protocol] = self._hear(_watch(protocol))
            except KernelError as err:
                problems.append(str(err))
        # Also for those who send only: what comes back is for a port that somebody has to have.
        giving = any(each.peer.version == 6 and (each.echo_transmit or each.echo_receive) for each in wanted)
        if not giving and self._given is not None:
            self._close(self._given)
            self._given = None
        elif giving and self._given is None:
            try:
                self._given = self._hear(listen(socket.AF_INET6, ECHO_PORT))
            except KernelError as err:
                problems.append(str(err))
        return problems

    def _hear(self, sock: socket.socket) -> socket.socket:
        self._sockets[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return sock

    def _close(self, sock: socket.socket) -> None:
        del self._sockets[sock.fileno()]
        self._epoll.unregister(sock.fileno())
        sock.close()

    def handed_over(self) -> int | None:
        """The descriptor of the socket that peers send to, inheritable; None if there is none."""
        if self._given is None:
            return None
        self._given.set_inheritable(True)
        return self._given.fileno()

    def take_over(self, descriptor: int) -> None:
        """Go on with the socket that a former process had."""
        self._given = self._hear(socket.socket(fileno=descriptor))
        self._given.set_inheritable(False)

    def read(self, descriptor: int) -> Iterator[tuple[bytes, float]]:
        """What came back of ours: its payload, and how many seconds it has waited. Theirs is given back."""
        sock = self._sockets[descriptor]
        if sock is self._given:
            self._give_back(sock)
            return
        for _ in range(self._at_once):
            try:
                packet, ancillary, _flags, _sender = sock.recvmsg(LONGEST_PACKET, 64)
            except OSError:
                return
            yield payload_of(packet), age_of(ancillary, time.time())

    def _give_back(self, sock: socket.socket) -> None:
        """With the hop limit that forwarding would have left, and from the address it came to."""
        for datagram in receive(sock, self._at_once):
            if not self._takes(datagram):
                continue
            info = _PACKET_INFO.pack(datagram.destination.packed, datagram.interface)
            ancillary = [
                (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info),
                (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(RETURNED_TTL)),
                (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(TRAFFIC_CLASS)),
            ]
            scope = datagram.interface if datagram.source.is_link_local else 0
            with contextlib.suppress(OSError):  # lost, as on the wire
                sock.sendmsg([datagram.payload], ancillary, 0, (str(datagram.source), ECHO_PORT, 0, scope))
