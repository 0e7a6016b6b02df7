"""Forgets connections: of released addresses, and those that a changed translation left as they were.

A connection is a pod's if the pod is its original source or its reply's source (also where a service address
was translated); a new pod must not inherit it. And a connection keeps the translation, or the want of one,
that its first packet met: a UDP stream goes on to an endpoint that is gone until its entry is gone too
(`forget_stale`).

The kernel compares protocol, ports and IPv4 addresses while it walks its table (CTA_FILTER, Linux 5.8), so
that only what may be meant is read; an older kernel tells everything. Each connection is then judged here and
deleted by its own tuple and id. IPv6 addresses are left to that: ctnetlink_filter_match_tuple compares them
the wrong way round.
"""

from __future__ import annotations

import _socket as socket  # as `netlink`
import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Protocol

from l3net.errors import KernelError
from l3net.faults import Faults
from l3net.late import logger
from l3net.model import Address, Prefix, Stale, Tracked
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.linkaddresses import local_addresses
from l3net.shell.kernel.links import NLA_F_NESTED
from l3net.shell.kernel.namespaces import setns
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes
from l3net.shell.threads import REAL, Started, Threads

log = logger(__name__)

CT_GET: Final = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
CT_DELETE: Final = (1 << 8) | 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_STATUS: Final = 3
CTA_PROTOINFO: Final = 4
CTA_ID: Final = 12
CTA_ZONE: Final = 18
CTA_FILTER: Final = 25
CTA_STATUS_MASK: Final = 26
CTA_FILTER_ORIG_FLAGS: Final = 1
CTA_FILTER_REPLY_FLAGS: Final = 2
# Bits of those flags: what of the tuple is compared (enum in net/netfilter/nf_internals.h).
FILTER_IP_SRC: Final = 1 << 0
FILTER_IP_DST: Final = 1 << 1
FILTER_PROTO_NUM: Final = 1 << 3
FILTER_SRC_PORT: Final = 1 << 4
FILTER_DST_PORT: Final = 1 << 5
CTA_TUPLE_IP: Final = 1
CTA_TUPLE_PROTO: Final = 2
CTA_IP_V4_SRC: Final = 1
CTA_IP_V4_DST: Final = 2
CTA_IP_V6_SRC: Final = 3
CTA_IP_V6_DST: Final = 4
CTA_PROTO_NUM: Final = 1
CTA_PROTO_SRC_PORT: Final = 2
CTA_PROTO_DST_PORT: Final = 3
CTA_PROTOINFO_TCP: Final = 1
CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: Final = 4
# linux/netfilter/nf_conntrack_common.h: an answer was seen; the source, the destination is translated.
IPS_SEEN_REPLY: Final = 1 << 1
IPS_SRC_NAT: Final = 1 << 4
IPS_DST_NAT: Final = 1 << 5
# linux/netfilter/nf_conntrack_tcp.h: of one that was in the middle when it was seen first (tcp_new).
IP_CT_TCP_FLAG_BE_LIBERAL: Final = 0x08
_TOUCHED: Final = IPS_SEEN_REPLY | IPS_DST_NAT
NFGENMSG: Final = struct.Struct("=BBH")
_PORT: Final = struct.Struct("!H")

#: More kinds of stale connections than this are looked for in one reading of all of their protocol.
_ASKED_ALONE: Final = 32

#: Of more addresses than these all connections are read.
_ADDRESSES_ASKED_ALONE: Final = 8
#: So many connections at most are read in one walk through the kernel's table, which takes as long as it is
#: wide (9 ms of 262,144 buckets), however few they are: that of three walks that tell only what is asked for.
_READ_AT_ONCE: Final = 4000

#: Seconds released addresses are collected before one visit; far below any cool-down.
COLLECT: Final = 0.5


def _source(tuple_: memoryview) -> bytes:
    for kind, ip in attributes(tuple_):
        if kind == CTA_TUPLE_IP:
            for which, value in attributes(ip):
                if which in (CTA_IP_V4_SRC, CTA_IP_V6_SRC):
                    return bytes(value)
    return b""


def deletion(body: bytes, sources: frozenset[bytes]) -> Request | None:
    """The request that deletes a connection as dumped, None if none of the sources has part in it."""
    if not any(source in body for source in sources):  # most are nobody's: a quick look first
        return None
    found = dict(attributes(memoryview(body)[NFGENMSG.size :]))
    if not any(
        _source(found[side]) in sources for side in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY) if side in found
    ):
        return None
    return deleting(body, found)


def deleting(body: bytes, found: Mapping[int, memoryview]) -> Request:
    """Deletes the one connection that was dumped as `body`, and no later one with the same tuple."""
    kept = [attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, bytes(found[CTA_TUPLE_ORIG]))]
    kept += [attribute(kind, bytes(found[kind])) for kind in (CTA_ID, CTA_ZONE) if kind in found]
    return Request(CT_DELETE, 0, body[: NFGENMSG.size] + b"".join(kept))


def forget(addresses: Iterable[Address]) -> list[int]:
    """Delete connections in the calling thread's namespace; the kernel's answers. Raises KernelError."""
    if sysctl.read("net/netfilter/nf_conntrack_count") in (None, "0"):
        return []
    wanted = list(addresses)
    codes = []
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            sources = frozenset(address.packed for address in wanted if address.version == version)
            if sources:
                dumped = netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(family, 0, 0)))
                requests = [found for _, body in dumped if (found := deletion(body, sources))]
                codes += netlink.transact(requests)
    return codes


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a connection as the kernel tells it."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int


def tuple_of(packed: memoryview) -> Tuple:
    """The tuple in a nested attribute; what it lacks is empty or 0."""
    source = destination = b""
    protocol = source_port = destination_port = 0
    for kind, value in attributes(packed):
        if kind == CTA_TUPLE_IP:
            for which, address in attributes(value):
                if which in (CTA_IP_V4_SRC, CTA_IP_V6_SRC):
                    source = bytes(address)
                elif which in (CTA_IP_V4_DST, CTA_IP_V6_DST):
                    destination = bytes(address)
        elif kind == CTA_TUPLE_PROTO:
            for which, field in attributes(value):
                if which == CTA_PROTO_NUM:
                    protocol = field[0]
                elif which == CTA_PROTO_SRC_PORT:
                    source_port = _PORT.unpack(field)[0]
                elif which == CTA_PROTO_DST_PORT:
                    destination_port = _PORT.unpack(field)[0]
    return Tuple(protocol, source, destination, source_port, destination_port)


def is_stale(
    stale: Stale,
    original: Tuple,
    reply: Tuple,
    status: int = 0,
    local: Collection[bytes] = frozenset(),
) -> bool:
    """Whether a connection, by the tuples of its two directions and its status, is one of those meant.
    `local`: this host's addresses, where it is asked for those."""
    return (
        original.protocol == stale.protocol
        and not (stale.untouched and status & _TOUCHED)
        and (not stale.port or original.destination_port == stale.port)
        and (
            not stale.destinations
            or any(original.destination == address.packed for address in stale.destinations)
        )
        and (stale.own_in is None or (original.destination in local and _lies_in(original, stale.own_in)))
        and (stale.answered_by is None or reply.source == stale.answered_by.packed)
        and not any(
            reply.source == address.packed and port in (0, reply.source_port) for address, port in stale.kept
        )
    )


def _lies_in(original: Tuple, prefixes: Collection[Prefix]) -> bool:
    destination = ip_address(original.destination)
    return any(destination in prefix for prefix in prefixes)


def _asking(stale: Stale, version: int) -> bytes:
    """The filter of a dump: as much of it as this family's comparison can be trusted with."""
    original = reply = FILTER_PROTO_NUM
    protocol = attribute(CTA_PROTO_NUM, bytes([stale.protocol]))
    forth, back = [], []
    ports = protocol
    if stale.port:
        original |= FILTER_DST_PORT
        ports += attribute(CTA_PROTO_DST_PORT, _PORT.pack(stale.port))
    if version == 4 and len(stale.destinations) == 1:
        original |= FILTER_IP_DST
        (only,) = stale.destinations
        forth.append(_nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_DST, only.packed)))
    if version == 4 and stale.answered_by is not None:
        reply |= FILTER_IP_SRC
        back.append(_nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, stale.answered_by.packed)))
    forth.append(_nested(CTA_TUPLE_PROTO, ports))
    back.append(_nested(CTA_TUPLE_PROTO, protocol))
    flags = attribute(CTA_FILTER_ORIG_FLAGS, _FLAGS.pack(original))
    flags += attribute(CTA_FILTER_REPLY_FLAGS, _FLAGS.pack(reply))
    status = b""
    if stale.untouched:
        status = attribute(CTA_STATUS, _STATUS.pack(0)) + attribute(CTA_STATUS_MASK, _STATUS.pack(_TOUCHED))
    return b"".join(
        (_nested(CTA_TUPLE_ORIG, *forth), _nested(CTA_TUPLE_REPLY, *back), _nested(CTA_FILTER, flags), status)
    )


_FLAGS: Final = struct.Struct("=I")
_STATUS: Final = struct.Struct("!I")


def _nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def _concerns(stale: Stale, version: int) -> bool:
    if stale.answered_by is not None and stale.answered_by.version != version:
        return False
    if stale.own_in is not None:
        return any(prefix.version == version for prefix in stale.own_in)
    return not stale.destinations or any(address.version == version for address in stale.destinations)


def forget_stale(stale: Iterable[Stale]) -> int:
    """Delete connections in the calling thread's namespace, after the table that translates has changed.

    How many there were. Raises KernelError. A few kinds cost the kernel a walk through its table each and
    nothing for the connections of others; many share the reading of all connections of their protocols.
    """
    wanted = list(dict.fromkeys(stale))
    if not wanted or sysctl.read("net/netfilter/nf_conntrack_count") in (None, "0"):
        return 0
    count = 0
    local = own_addresses() if any(each.own_in is not None for each in wanted) else frozenset()
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            meant = [each for each in wanted if _concerns(each, version)]
            alone = len(meant) <= _ASKED_ALONE
            asked: dict[bytes, list[Stale]] = {}
            for each in meant:
                # Of IPv6, kinds that differ in their addresses alone share a question, too.
                about = each if alone else Stale(each.protocol, untouched=each.untouched)
                asked.setdefault(_asking(about, version), []).append(each)
            for asking, kinds in asked.items():
                count += _forget_kinds(netlink, NFGENMSG.pack(family, 0, 0) + asking, kinds, local)
    return count


def own_addresses() -> frozenset[bytes]:
    """The addresses of the calling thread's namespace."""
    with Netlink() as netlink:
        return frozenset(each.packed for each in local_addresses(netlink))


def _forget_kinds(netlink: Netlink, body: bytes, kinds: Sequence[Stale], local: Collection[bytes]) -> int:
    by_port: dict[int, list[Stale]] = {}
    for each in kinds:
        by_port.setdefault(each.port, []).append(each)
    requests = []
    for _, dumped in netlink.dump(Request(CT_GET, 0, body)):
        found = dict(attributes(memoryview(dumped)[NFGENMSG.size :]))
        if CTA_TUPLE_ORIG not in found or CTA_TUPLE_REPLY not in found:
            continue
        original, reply = tuple_of(found[CTA_TUPLE_ORIG]), tuple_of(found[CTA_TUPLE_REPLY])
        status = int.from_bytes(found.get(CTA_STATUS, b""), "big")
        candidates = (*by_port.get(original.destination_port, ()), *by_port.get(0, ()))
        if any(is_stale(each, original, reply, status, local) for each in candidates):
            requests.append(deleting(dumped, found))
    return deleted(netlink.transact(requests), "forget connections")


def deleted(codes: Collection[int], what: str) -> int:
    """How many there were, by the kernel's answers; what was gone already is success. Raises KernelError."""
    if bad := {code for code in codes if code not in (0, errno.ENOENT)}:
        raise KernelError(what, min(bad))
    return sum(1 for code in codes if code == 0)


_FEW: Final = 64
_BY_FAMILY: Final = ((socket.AF_INET, (4,)), (socket.AF_INET6, (6,)))
_AT_ONCE: Final = ((socket.AF_UNSPEC, (4, 6)),)


def tracked_of(addresses: Collection[Address]) -> list[Tracked]:
    """The connections of the calling thread's namespace that began at or are answered by these addresses,
    but for those that the host began itself. Raises KernelError."""
    count = int(sysctl.read("net/netfilter/nf_conntrack_count") or 0) if addresses else 0
    if not count:
        return []
    local = own_addresses()
    found: dict[bytes, Tracked] = {}
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family, versions in _AT_ONCE if count <= _READ_AT_ONCE else _BY_FAMILY:
            wanted = frozenset(each.packed for each in addresses if each.version in versions)
            if not wanted:
                continue
            asked = (
                _asking_for(wanted) if versions == (4,) and len(wanted) <= _ADDRESSES_ASKED_ALONE else [b""]
            )
            for asking in asked:
                for _, body in netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(family, 0, 0) + asking)):
                    # Of a few addresses to look for them is quicker than to read the message.
                    if len(wanted) > _FEW or any(each in body for each in wanted):
                        each = _tracked(body, wanted, local)
                        if each is not None:
                            found[each.handle] = each
    return list(found.values())


def _asking_for(addresses: Collection[bytes]) -> Iterator[bytes]:
    """Filters of dumps, by IPv4 addresses: of who began, and of who answers."""
    for address in addresses:
        from_it = _nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, address))
        for began in (True, False):
            flags = attribute(CTA_FILTER_ORIG_FLAGS, _FLAGS.pack(FILTER_IP_SRC if began else 0))
            flags += attribute(CTA_FILTER_REPLY_FLAGS, _FLAGS.pack(0 if began else FILTER_IP_SRC))
            side = CTA_TUPLE_ORIG if began else CTA_TUPLE_REPLY
            yield _nested(side, from_it) + _nested(CTA_FILTER, flags)


def _tracked(body: bytes, wanted: frozenset[bytes], local: Collection[bytes]) -> Tracked | None:
    parts = dict(attributes(memoryview(body)[NFGENMSG.size :]))
    if CTA_TUPLE_ORIG not in parts or CTA_TUPLE_REPLY not in parts:
        return None
    original, reply = tuple_of(parts[CTA_TUPLE_ORIG]), tuple_of(parts[CTA_TUPLE_REPLY])
    if original.source in local or wanted.isdisjoint((original.source, reply.source)):
        return None
    return decoded(body, parts, original, reply)


def decoded(body: bytes, parts: Mapping[int, memoryview], original: Tuple, reply: Tuple) -> Tracked:
    """A connection out of a message."""
    return Tracked(
        original.protocol,
        ip_address(original.source),
        original.source_port,
        ip_address(reply.source),
        reply.source_port,
        bytes(body),
        _unsure(original.protocol, parts),
        ip_address(reply.destination),
    )


def _unsure(protocol: int, parts: Mapping[int, memoryview]) -> bool:
    """Whether the end that was seen first may be the one that answers. What is translated was seen from its
    beginning on."""
    status = int.from_bytes(parts.get(CTA_STATUS, b""), "big")
    if status & (IPS_SRC_NAT | IPS_DST_NAT):
        return False
    if protocol != socket.IPPROTO_TCP:
        return protocol == socket.IPPROTO_UDP
    for kind, tcp in attributes(parts.get(CTA_PROTOINFO, b"")):
        if kind == CTA_PROTOINFO_TCP:
            flags = dict(attributes(tcp)).get(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, b"\0")
            return bool(flags[0] & IP_CT_TCP_FLAG_BE_LIBERAL)  # struct nf_ct_tcp_flags: flags, mask
    return False


class Flush(Protocol):
    """Who forgets the connections of released addresses."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def add(self, addresses: Iterable[Address]) -> None: ...


class ConntrackFlush:
    """Collects released addresses and visits the connection table for all of them together."""

    def __init__(self, home: int, faults: Faults | None = None, threads: Threads = REAL) -> None:
        self._home = home
        self._faults = faults or Faults()
        self._threads = threads
        self._wanted = threads.condition()
        self._addresses: list[Address] = []
        self._stopping = False
        self._thread: Started | None = None

    def start(self) -> None:
        self._thread = self._threads.start(self._run, "conntrack-flush")

    def stop(self) -> None:
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def add(self, addresses: Iterable[Address]) -> None:
        with self._wanted:
            idle = not self._addresses
            self._addresses += addresses
            if idle:  # otherwise it is collecting already
                self._wanted.notify_all()

    def _visit(self, addresses: list[Address]) -> None:
        setns(self._home)
        deleted(forget(addresses), "forget connections")

    def _run(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: bool(self._addresses) or self._stopping)
                self._wanted.wait_for(lambda: self._stopping, COLLECT)
                taken, self._addresses = self._addresses, []
                stopping = self._stopping
            if taken:
                try:
                    self._visit(taken)
                except Exception as err:  # of these addresses alone: the next visit is of others
                    self._faults.note("forgetting connections", err, lasting=False)
            if stopping:
                return
