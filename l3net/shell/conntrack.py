"""Forgets the connections of released addresses, so that a new pod does not inherit an old pod's.

`IPCTNL_MSG_CT_DELETE` with CTA_FILTER (Linux 5.8) deletes by original source and by reply source, which is
the pod also where a service address was translated. An older kernel answers EINVAL or EOPNOTSUPP.
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
from l3net.shell.links import nested
from l3net.shell.namespaces import read_sysctl, setns
from l3net.shell.netlink import Netlink, Request, attribute

log = logging.getLogger(__name__)

NETLINK_NETFILTER: Final = 12
CT_DELETE: Final = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_TUPLE_IP: Final = 1
CTA_IP_V4_SRC: Final = 1
CTA_IP_V6_SRC: Final = 3
CTA_FILTER: Final = 25
CTA_FILTER_ORIG_FLAGS: Final = 1
CTA_FILTER_REPLY_FLAGS: Final = 2
FILTER_IP_SRC: Final = 1
#: Seconds released addresses are collected before one visit; far below any cool-down.
COLLECT: Final = 0.5


def deletions(address: Address) -> list[Request]:
    """Requests that delete every connection an address began or answered."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    header = struct.pack("=BBH", family, 0, 0)  # struct nfgenmsg
    source = CTA_IP_V4_SRC if address.version == 4 else CTA_IP_V6_SRC
    tuple_ip = nested(CTA_TUPLE_IP, attribute(source, address.packed))
    requests = []
    for side, orig, reply in ((CTA_TUPLE_ORIG, FILTER_IP_SRC, 0), (CTA_TUPLE_REPLY, 0, FILTER_IP_SRC)):
        flags = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", orig))
        flags += attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", reply))
        requests.append(Request(CT_DELETE, 0, header + nested(side, tuple_ip) + nested(CTA_FILTER, flags)))
    return requests


def forget(addresses: Iterable[Address]) -> list[int]:
    """Delete connections in the calling thread's namespace; the kernel's answers, [] if it tracks none."""
    if read_sysctl("net/netfilter/nf_conntrack_count") in (None, "0"):
        return []
    with Netlink(NETLINK_NETFILTER) as netlink:
        return netlink.transact([request for address in addresses for request in deletions(address)])


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
            self._addresses += addresses
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
