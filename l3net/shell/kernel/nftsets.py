"""What sets that rules fill hold, read by netlink: nft 1.0.6 reads one set a process, or the whole table."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from l3net.errors import KernelError
from l3net.model import Address
from l3net.naming import NFT_TABLE
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes

# linux/netfilter/nf_tables.h
_GETSETELEM: Final = (10 << 8) | 13
_NFPROTO_INET: Final = 1
_LIST_TABLE: Final = 1
_LIST_SET: Final = 2
_LIST_ELEMENTS: Final = 3
_KEY: Final = 1
_TIMEOUT: Final = 4
_EXPIRATION: Final = 5
_VALUE: Final = 1


@dataclass(frozen=True, slots=True)
class Member:
    """An address in a set; `timeout` and `left` in milliseconds."""

    address: Address
    timeout: int
    left: int

    def __str__(self) -> str:
        """As nft reads it."""
        return f"{self.address} timeout {self.timeout}ms expires {self.left}ms"


def members(names: Iterable[str]) -> dict[str, list[Member]]:
    """The members of sets of ours that are there, in the namespace of the thread. Raises KernelError."""
    found: dict[str, list[Member]] = {}
    with Netlink(NETLINK_NETFILTER) as netlink:
        for name in names:
            body = bytes((_NFPROTO_INET, 0, 0, 0))
            body += attribute(_LIST_TABLE, NFT_TABLE.encode() + b"\0")
            body += attribute(_LIST_SET, name.encode() + b"\0")
            try:
                dumped = netlink.dump(Request(_GETSETELEM, 0, body))
            except KernelError as err:
                if err.code == errno.ENOENT:
                    continue
                raise
            found[name] = [member for _, each in dumped for member in _decoded(each)]
    return found


def _decoded(body: bytes) -> Iterable[Member]:
    for kind, value in attributes(memoryview(body)[4:]):
        if kind != _LIST_ELEMENTS:
            continue
        for _, element in attributes(value):
            parts = dict(attributes(element))
            times = [int.from_bytes(parts.get(which, b""), "big") for which in (_TIMEOUT, _EXPIRATION)]
            for which, key in attributes(parts.get(_KEY, b"")):
                if which == _VALUE and len(key) in (4, 16) and times[1]:
                    yield Member(ip_address(bytes(key)), *times)
