"""Hands ICMP errors about services' connections on to the nodes that may translate these, and takes theirs.

The firewall logs such errors to a group (nfnetlink_log), a few a second. Each goes by UDP to every other
node, which puts it into its own stack as it was: connection tracking there knows the connection, or drops
it. What comes from no node's address, or is no such error, is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Sequence
from typing import Final

from l3net.firewall.strays import LONGEST, about_service
from l3net.model import Address
from l3net.naming import ERROR_LOG_GROUP
from l3net.shell.kernel.packetlog import open_group, read_group

log = logging.getLogger(__name__)

_IP_PKTINFO: Final = 8
_IPV6_PKTINFO: Final = 50
#: Errors taken from nodes in a second, beyond which they are dropped.
TAKEN: Final = 500
#: Packets read in one go, so that a storm does not hold up the loop.
_AT_ONCE: Final = 64


class ErrorRelay:
    """`update` says who the nodes are; `handed` and `taken` count errors. For one event loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.is_service: Callable[[Address], bool] = lambda _address: False
        self._nodes: frozenset[str] = frozenset()
        self._second, self._left = 0.0, TAKEN
        self._own: dict[int, Address] = {}
        self._others: tuple[Address, ...] = ()
        self._sockets: list[socket.socket] = []
        self._sending: dict[int, socket.socket] = {}
        self._raw: dict[int, socket.socket] = {}
        self.handed = 0
        self.taken = 0
        self.problem = ""  # why it does not run, though it should

    @property
    def port(self) -> int:
        """The port while it runs, else 0."""
        return self._port if self._sockets else 0

    def start(self) -> None:
        """In the namespace of the thread. Where it cannot be done `problem` tells, and services go on
        without; it may be tried again."""
        if not self._port or self._sockets:
            return
        loop = asyncio.get_running_loop()
        try:
            self._listen()
        except OSError as err:
            told = self.problem
            self.problem = (
                f"ICMP errors about services are not forwarded to other nodes (UDP port {self._port}): "
                f"{err.strerror}; give every node another --error-relay-port, or 0"
            )
            if told != self.problem:
                log.warning("%s", self.problem)
            self.stop()
            return
        self.problem = ""
        for sock in self._sockets:
            read = self._read_log if sock.family == socket.AF_NETLINK else self._read_nodes
            loop.add_reader(sock, read, sock)

    def stop(self) -> None:
        """Close everything; a second time is no error."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
        for sock in (*self._sockets, *self._raw.values()):
            sock.close()
        self._sockets, self._raw, self._sending = [], {}, {}

    def update(self, nodes: Collection[Sequence[Address]], own: Sequence[Address]) -> None:
        """The addresses of every node, and this node's."""
        self._nodes = frozenset(str(address) for each in nodes for address in each)
        self._own = {address.version: address for address in reversed(own)}
        others = (each for each in nodes if each and not set(each) & set(own))
        # One address of each is enough; one of a family that this node has.
        found = (next((address for address in each if address.version in self._own), None) for each in others)
        self._others = tuple(address for address in found if address is not None)

    def _listen(self) -> None:
        self._sockets.append(open_group(ERROR_LOG_GROUP, LONGEST))
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            try:
                hearing = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            except OSError as err:
                if version == 6 and err.errno == errno.EAFNOSUPPORT:  # a host without IPv6
                    continue
                raise
            self._sockets.append(hearing)
            if version == 6:
                hearing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            hearing.bind(("", self._port))
            self._sending[version] = hearing
            self._raw[version] = socket.socket(
                family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
            )
        for sock in (*self._sockets, *self._raw.values()):
            sock.setblocking(False)

    def _read_log(self, sock: socket.socket) -> None:
        for logged in read_group(sock):  # what was lost, its senders say again
            self._hand_on(logged.packet)

    def _hand_on(self, packet: bytes) -> None:
        if about_service(packet, self.is_service) is None:
            return
        self.handed += 1
        for node in self._others:
            own = self._own[node.version]
            if node.version not in self._sending:
                continue
            try:
                self._sending[node.version].sendmsg([packet], [_from(own)], 0, (str(node), self._port))
            except OSError as err:
                log.debug("ICMP error not handed on to %s: %s", node, err)

    def _may_take(self) -> bool:
        """Whether this second's share is not used up: the sender's address may be forged."""
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1.0:
            self._second, self._left = now, TAKEN
        self._left -= 1
        return self._left >= 0

    def _read_nodes(self, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet, sender = sock.recvfrom(LONGEST + 1)
            except BlockingIOError:
                return
            except OSError:  # an earlier datagram was refused: a node without l3net
                continue
            if sender[0] not in self._nodes or not self._may_take():
                continue
            service = about_service(packet, self.is_service)
            if service is None or service.version not in self._raw:
                continue
            self.taken += 1
            try:
                self._raw[service.version].sendto(packet, (str(service), 0))
            except OSError as err:
                log.debug("ICMP error to %s not taken: %s", service, err)


def _from(own: Address) -> tuple[int, int, bytes]:
    """The ancillary message that has a datagram sent from an address (ip(7), ipv6(7))."""
    if own.version == 4:
        return (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4s", 0, own.packed, bytes(4)))
    return (socket.IPPROTO_IPV6, _IPV6_PKTINFO, own.packed + struct.pack("=I", 0))
