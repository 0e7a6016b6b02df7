"""Connections as they begin and end (conntrack events), and those that there are.

The kernel tells events only while somebody listens (net.netfilter.nf_conntrack_events is 2). An event is
looked at as octets first: what differs from one that was seen in nothing but the client's port is not decoded
again, which leaves a fifth of the work.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, NamedTuple

from l3net.errors import KernelError
from l3net.explain.flows import Tracked
from l3net.shell.kernel.conntrack import (
    CT_GET,
    CTA_STATUS,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_REPLY,
    IPS_SEEN_REPLY,
    tuple_of,
)
from l3net.shell.kernel.netlink import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_NETFILTER,
    SOL_NETLINK,
    Netlink,
    Request,
    attributes,
    messages,
)

_NEW_GROUP: Final = 1  # NFNLGRP_CONNTRACK_NEW
_DESTROY_GROUP: Final = 3  # NFNLGRP_CONNTRACK_DESTROY
_DESTROY: Final = 2  # IPCTNL_MSG_CT_DELETE, the lower octet of a message's type
_BUFFER: Final = 16 << 20
_SO_RCVBUFFORCE: Final = 33
_DATAGRAM: Final = 1 << 16
#: Kinds of events that are remembered by their octets; beyond, all are forgotten and learned anew.
_REMEMBERED: Final = 50_000
#: Seconds in which events gather.
_GATHER: Final = 0.05
_HEADER: Final = 16  # struct nlmsghdr
#: Where an event's octets hold the client's port: of the original source (begin and end), and of the reply's
#: destination (begin), which is the last of what tells its kind (struct nlattr, net/netfilter/
#: nf_conntrack_netlink.c). By family; for others nothing matches.
_PORTS: Final[dict[int, tuple[int, int, int]]] = {
    socket.AF_INET: (_HEADER + 40, _HEADER + 48, _HEADER + 100),
    socket.AF_INET6: (_HEADER + 64, _HEADER + 72, _HEADER + 148),
}
_NOWHERE: Final = (_HEADER, _HEADER, _HEADER)


class Event(NamedTuple):
    """A connection that has begun, or ended. `seen` is the same object for all that differ in nothing but
    `source_port`, the client's (0 where there is none)."""

    ended: bool
    seen: Tracked
    source_port: int = 0


def decode(body: bytes | memoryview) -> Tracked | None:
    """A connection out of a message's body; None for what has no ends."""
    found = dict(attributes(memoryview(body)[4:]))
    if CTA_TUPLE_ORIG not in found or CTA_TUPLE_REPLY not in found:
        return None
    original, reply = tuple_of(found[CTA_TUPLE_ORIG]), tuple_of(found[CTA_TUPLE_REPLY])
    if not original.source or not original.destination or not reply.source or not reply.destination:
        return None
    status = int.from_bytes(found.get(CTA_STATUS, b""), "big")
    return Tracked(
        original.protocol,
        ip_address(original.source),
        ip_address(original.destination),
        original.destination_port,
        ip_address(reply.source),
        reply.source_port,
        ip_address(reply.destination),
        bool(status & IPS_SEEN_REPLY),
    )


def present() -> Iterator[Tracked]:
    """The connections of the calling thread's namespace. Raises KernelError."""
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for _, body in netlink.dump(Request(CT_GET, 0, bytes((family, 0, 0, 0)))):
                if (found := decode(body)) is not None:
                    yield found


@dataclass
class FlowEvents:
    """Listens from now until `close`. `ends`: also to connections that end. Raises KernelError."""

    ends: bool = False
    lost: int = 0
    _known: dict[bytes, Tracked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
            self._socket.bind((0, 0))
            for group in (_NEW_GROUP, _DESTROY_GROUP) if self.ends else (_NEW_GROUP,):
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
            with contextlib.suppress(OSError):  # less memory loses more in a burst, which is counted
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.setblocking(False)
        except OSError as err:
            raise KernelError("listen to connection tracking events", err.errno or errno.EIO) from err

    def fileno(self) -> int:
        """To wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def read(self, patience: float) -> Iterator[Event]:
        """What has come, once something has, or `patience` seconds are over.

        What comes soon after is waited for: a process that wakes for each event costs more than they do.
        """
        if select.select([self._socket], [], [], patience)[0]:
            time.sleep(_GATHER)
        receive, known, places = self._socket.recv, self._known, _PORTS
        while True:
            try:
                data = receive(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise KernelError("read connection tracking events", err.errno or errno.EIO) from err
                self.lost += 1
                continue
            # Almost all: one message, of a kind that was seen before.
            begin, end, again = places.get(data[_HEADER], _NOWHERE)
            if (seen := known.get(data[_HEADER:begin] + data[end:again])) is not None:
                port = data[begin + 4] << 8 | data[begin + 5]
                yield Event(data[4] == _DESTROY, seen, port)
                continue
            for kind, _flags, _sequence, _port, body in messages(data):
                if (event := self._event(kind, bytes(body))) is not None:
                    yield event

    def _event(self, kind: int, body: bytes) -> Event | None:
        begin, end, again = (max(0, place - _HEADER) for place in _PORTS.get(body[0], _NOWHERE))
        seen = decode(body)
        if seen is None:
            return None
        if not seen.port or len(body) <= again:
            return Event(kind & 0xFF == _DESTROY, seen)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        key = body[:begin] + body[end:again]
        seen = self._known.setdefault(key, seen)
        return Event(kind & 0xFF == _DESTROY, seen, int.from_bytes(body[begin + 4 : begin + 6], "big"))
