"""Kernel notifications: what of ours was changed by someone else, at once."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from l3net.errors import KernelError
from l3net.naming import EGRESS_PRIORITY, EGRESS_TABLES, NFT_TABLE
from l3net.ports import (
    ForwardingOff,
    GuardSeen,
    KernelNotice,
    LinkSeen,
    NoticesLost,
    OwnRouteSeen,
    RouteSeen,
    TableSeen,
    WayGone,
)
from l3net.shell.kernel.egress_ways import FRA_PRIORITY, FRA_PROTOCOL
from l3net.shell.kernel.netlink import (
    HEADER,
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_NETFILTER,
    SOL_NETLINK,
    attributes,
    messages,
)
from l3net.shell.kernel.routecodec import RT_TABLE_MAIN, decode_route, rival
from l3net.shell.kernel.socketfilter import Statement, attach_filter

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_DELRULE: Final = 33
RTM_NEWNETCONF: Final = 80
RTNLGRP_LINK: Final = 1
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_IPV4_RULE: Final = 8
RTNLGRP_IPV6_IFADDR: Final = 9
RTNLGRP_IPV6_ROUTE: Final = 11
RTNLGRP_IPV6_RULE: Final = 19
RTNLGRP_IPV4_NETCONF: Final = 24
RTNLGRP_IPV6_NETCONF: Final = 25
#: linux/netconf.h: attributes of a setting, and the interface that stands for all.
NETCONFA_IFINDEX: Final = 1
NETCONFA_FORWARDING: Final = 2
NETCONFA_IFINDEX_ALL: Final = -1
#: linux/if.h, linux/if_link.h.
IFF_UP: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MASTER: Final = 10

NFNLGRP_NFTABLES: Final = 7
NFT_MSG_NEWGEN: Final = (10 << 8) | 15  # NFNL_SUBSYS_NFTABLES
NFNL_SUBSYS_NFTABLES: Final = 10
NFPROTO_INET: Final = 1
NFPROTO_IPV4: Final = 2
NFPROTO_IPV6: Final = 10
NFPROTO_BRIDGE: Final = 7
_OURS: Final = (NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6)
NFTA_GEN_ID: Final = 1
#: The attribute that names the table, in messages of every kind (linux/netfilter/nf_tables.h).
NFTA_TABLE: Final = 1

_LENGTH_AND_TYPE: Final = struct.Struct("=IH")  # struct nlmsghdr begins so
SO_RCVBUFFORCE: Final = 33
RECEIVE_BUFFER: Final = 16 << 20
RTPROT_OFFSET: Final = 5


class KernelMonitor:
    """Two subscribed sockets on the running event loop, in this thread's network namespace.

    Of routes of `own_protocol` that were changed through the netlink socket with `own_port` nothing is told:
    who changed them knows. The kernel leaves them out, or 100,000 of them would drown what others do.
    Likewise of what is changed of the guard's table through the socket with the port that `guard_port` tells.
    """

    def __init__(
        self,
        own_protocol: int,
        own_port: int,
        names: Callable[[], Mapping[int, str]],
        guard_port: Callable[[], int] = lambda: 0,
    ) -> None:
        """`names` tells the links' names by index, as read last."""
        self._heard: Callable[[KernelNotice], None] = lambda _notice: None
        self._names = names
        self._own = own_protocol
        self._own_port = own_port
        self._sockets: list[socket.socket] = []
        self._table = NFT_TABLE.encode() + b"\0"
        self._guard_port = guard_port
        self._guard_touched = False  # as below, the table of the pods' ports
        self._touched = False  # our table, by the transaction that is being told of

    def start(self, heard: Callable[[KernelNotice], None]) -> None:
        """Raises KernelError when the kernel refuses the subscription."""
        self._heard = heard
        loop = asyncio.get_running_loop()
        route = self._subscribe(
            socket.NETLINK_ROUTE,
            RTNLGRP_LINK,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV4_NETCONF,
            RTNLGRP_IPV6_NETCONF,
            RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_RULE,
            leave_out=_without(self._own, self._own_port),
        )
        nft = self._subscribe(NETLINK_NETFILTER, NFNLGRP_NFTABLES)
        loop.add_reader(route, self._read_route, route)
        loop.add_reader(nft, self._read_nft, nft)

    def stop(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _subscribe(self, protocol: int, *groups: int, leave_out: Sequence[Statement] = ()) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            if leave_out:
                attach_filter(sock, *leave_out)
            sock.bind((0, 0))
            sock.setblocking(False)
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            for group in groups:
                sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as err:
            raise KernelError("subscribe to kernel notifications", err.errno or errno.EIO) from err
        self._sockets.append(sock)
        return sock

    def _datagrams(self, sock: socket.socket) -> Iterator[bytes]:
        for _ in range(64):  # bounded, so that a storm cannot starve the loop
            try:
                yield sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno == errno.ENOBUFS:
                    self._heard(NoticesLost())
                    continue
                raise

    def _read_route(self, sock: socket.socket) -> None:
        for data in self._datagrams(sock):
            for kind, _flags, _sequence, _port, body in messages(data):
                self._on_route(kind, bytes(body))

    def _read_nft(self, sock: socket.socket) -> None:
        """A table of ten thousand services is told of element by element, ours too: what follows the first
        message of ours in a transaction is not even looked at."""
        size = HEADER.size
        for data in self._datagrams(sock):
            at, end = 0, len(data)
            while at + size < end:
                length, kind = _LENGTH_AND_TYPE.unpack_from(data, at)
                if length < size or at + length > end:
                    break
                if not self._touched or kind == NFT_MSG_NEWGEN or data[at + size] not in _OURS:
                    port = HEADER.unpack_from(data, at)[-1]
                    self._on_nft(kind, port, data[at + size : at + length])
                at += (length + 3) & ~3

    def _on_route(self, kind: int, body: bytes) -> None:
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            gone = kind == RTM_DELROUTE
            if len(body) > RTPROT_OFFSET and body[RTPROT_OFFSET] == self._own:
                decoded = decode_route(body, self._names())
                if decoded is not None and decoded[0] == RT_TABLE_MAIN:
                    self._heard(OwnRouteSeen(decoded[2], gone))
                elif decoded is not None and gone and decoded[0] & ~0xFFFF == EGRESS_TABLES:
                    self._heard(WayGone())
            elif underlay_route(body):
                self._heard(RouteSeen(rival(body), gone))
        elif kind == RTM_DELRULE and way_rule(body, self._own):
            self._heard(WayGone())
        elif kind in (RTM_NEWADDR, RTM_DELADDR, RTM_NEWLINK, RTM_DELLINK):
            of_link = kind in (RTM_NEWLINK, RTM_DELLINK)
            apart = (kind == RTM_NEWLINK and port_apart(body)) if of_link else None
            self._heard(LinkSeen(interface_name(kind, body), apart))
        elif kind == RTM_NEWNETCONF and forwards_no_more(body):
            self._heard(ForwardingOff())

    def _on_nft(self, kind: int, port: int, body: bytes) -> None:
        """Each object that a transaction changed, then the generation that it made (nf_tables_commit)."""
        if kind != NFT_MSG_NEWGEN:
            if kind >> 8 != NFNL_SUBSYS_NFTABLES:
                return
            if body[0] in _OURS and not self._touched:
                self._touched = self._of_ours(body)
            elif body[0] == NFPROTO_BRIDGE and not self._guard_touched and port != self._guard_port():
                self._guard_touched = self._of_ours(body)
            return
        if self._guard_touched:
            self._guard_touched = False
            self._heard(GuardSeen())
        touched, self._touched = self._touched, False
        if not touched:
            return
        for attr, value in attributes(memoryview(body)[4:]):
            if attr == NFTA_GEN_ID:
                self._heard(TableSeen(int(struct.unpack("!I", value)[0])))

    def _of_ours(self, body: bytes) -> bool:
        """Whether an object is of a table that has the name of ours."""
        names = (value for attr, value in attributes(memoryview(body)[4:]) if attr == NFTA_TABLE)
        return bytes(next(names, b"")) == self._table


def _without(protocol: int, port: int) -> Sequence[Statement]:
    """A socket filter (classic BPF) for all but route messages of a protocol from a port.

    A notification is a datagram of one message: struct nlmsghdr, then struct rtmsg. BPF reads big-endian.
    """
    accept, drop = 7, 8
    return (
        (0x28, 0, 0, 4),  # ldh [nlmsg_type]
        (0x15, 1, 0, socket.htons(RTM_NEWROUTE)),  # jeq: to the port
        (0x15, 0, accept - 3, socket.htons(RTM_DELROUTE)),
        (0x20, 0, 0, 12),  # ld [nlmsg_pid]
        (0x15, 0, accept - 5, socket.htonl(port)),
        (0x30, 0, 0, 16 + RTPROT_OFFSET),  # ldb [rtm_protocol]
        (0x15, drop - 7, 0, protocol),
        (0x06, 0, 0, 0xFFFFFFFF),  # ret: all of it
        (0x06, 0, 0, 0),  # ret: nothing
    )


def port_apart(body: bytes) -> bool:
    """Whether a link message is of one that is down or has no master."""
    flags = struct.unpack_from("=I", body, 8)[0]  # struct ifinfomsg
    return not flags & IFF_UP or all(attr != IFLA_MASTER for attr, _ in attributes(memoryview(body)[16:]))


def way_rule(body: bytes, own: int) -> bool:
    """Whether a rule is one of ours, by protocol and priority (linux/fib_rules.h)."""
    found = {attr: bytes(value) for attr, value in attributes(memoryview(body)[12:])}  # struct fib_rule_hdr
    priority = struct.pack("=I", EGRESS_PRIORITY)
    return found.get(FRA_PROTOCOL) == bytes((own,)) and found.get(FRA_PRIORITY) == priority


def forwards_no_more(body: bytes) -> bool:
    """Whether a message about settings says that forwarding is off, of all interfaces."""
    found = {
        attr: struct.unpack("=i", value)[0]
        for attr, value in attributes(memoryview(body)[4:])  # struct netconfmsg, aligned
        if len(value) == 4
    }
    return found.get(NETCONFA_IFINDEX) == NETCONFA_IFINDEX_ALL and found.get(NETCONFA_FORWARDING) == 0


def interface_name(kind: int, body: bytes) -> str | None:
    """The interface a link or address message is about; None when it is not known any more."""
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        for attr, value in attributes(memoryview(body)[16:]):  # struct ifinfomsg
            if attr == IFLA_IFNAME:
                return bytes(value).rstrip(b"\0").decode(errors="replace")
        return None
    index = struct.unpack_from("=I", body, 4)[0]  # struct ifaddrmsg
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def underlay_route(body: bytes) -> bool:
    """Whether a route that is not ours can matter to next hops: in the main table and not link-local."""
    if body[4] != 254:  # RT_TABLE_MAIN; the local table holds addresses, of which ADDRESS tells
        return False
    if body[0] == socket.AF_INET6:
        for attr, value in attributes(memoryview(body)[12:]):  # struct rtmsg
            if attr == 1:  # RTA_DST
                return bytes(value[:1]) != b"\xff" and bytes(value[:2]) != b"\xfe\x80"
    return True
