"""Forgets the connections of released addresses, so that a new pod does not inherit an old pod's.

A connection is a pod's if the pod is its original source or its reply's source (also where a service address
was translated). The table is read and each connection deleted by its own tuple: the kernel's CTA_FILTER would
do it in one request, but compares IPv6 addresses the wrong way round (ctnetlink_filter_match_tuple).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Final

from l3net.errors import KernelError
from l3net.model import Address
from l3net.shell import sysctl
from l3net.shell.links import NLA_F_NESTED
from l3net.shell.namespaces import setns
from l3net.shell.netlink import Netlink, Request, attribute, attributes

log = logging.getLogger(__name__)

NETLINK_NETFILTER: Final = 12
CT_GET: Final = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
CT_DELETE: Final = (1 << 8) | 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_ID: Final = 12
CTA_ZONE: Final = 18
CTA_TUPLE_IP: Final = 1
CTA_IP_V4_SRC: Final = 1
CTA_IP_V6_SRC: Final = 3
_NFGENMSG: Final = struct.Struct("=BBH")

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
    found = dict(attributes(memoryview(body)[_NFGENMSG.size :]))
    if not any(
        _source(found[side]) in sources for side in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY) if side in found
    ):
        return None
    kept = [attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, bytes(found[CTA_TUPLE_ORIG]))]
    kept += [attribute(kind, bytes(found[kind])) for kind in (CTA_ID, CTA_ZONE) if kind in found]
    return Request(CT_DELETE, 0, body[: _NFGENMSG.size] + b"".join(kept))


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
                dumped = netlink.dump(Request(CT_GET, 0, _NFGENMSG.pack(family, 0, 0)))
                requests = [found for _, body in dumped if (found := deletion(body, sources))]
                codes += netlink.transact(requests)
    return codes


class ConntrackFlush:
    """Collects released addresses and visits the connection table for all of them together."""

    def __init__(self, home: int) -> None:
        self._home = home
        self._wanted = threading.Condition()
        self._addresses: list[Address] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="conntrack-flush", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        self._thread.join(timeout=5)

    def add(self, addresses: Iterable[Address]) -> None:
        with self._wanted:
            idle = not self._addresses
            self._addresses += addresses
            if idle:  # otherwise it is collecting already
                self._wanted.notify_all()

    def _run(self) -> None:
        setns(self._home)
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: bool(self._addresses) or self._stopping)
                self._wanted.wait_for(lambda: self._stopping, COLLECT)
                taken, self._addresses = self._addresses, []
                stopping = self._stopping
            with contextlib.suppress(KernelError):
                bad = {code for code in forget(taken) if code not in (0, errno.ENOENT)}
                if bad:
                    log.warning("forget connections: %s", ", ".join(errno.errorcode[code] for code in bad))
            if stopping:
                return
