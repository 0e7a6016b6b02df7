"""What sets hold whose members come and go by themselves, read by netlink: nft 1.0.6 reads one set a process,
or the whole table."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from l3net.errors import KernelError
from l3net.firewall.policy import ENDED, LATE
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
#: Sets whose keys are connections.
_CONNECTIONS: Final = re.compile(f"({ENDED}|{LATE})[46]")


@dataclass(frozen=True, slots=True)
class Member:
    """Of a set, by its key as nft reads it; `timeout` and `left` in milliseconds."""

    key: str
    timeout: int
    left: int

    def __str__(self) -> str:
        """As nft reads it."""
        return f"{self.key} timeout {self.timeout}ms expires {self.left}ms"


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
            connections = _CONNECTIONS.fullmatch(name) is not None
            found[name] = [member for _, each in dumped for member in _decoded(each, connections=connections)]
    return found


def _decoded(body: bytes, *, connections: bool) -> Iterator[Member]:
    for kind, value in attributes(memoryview(body)[4:]):
        if kind != _LIST_ELEMENTS:
            continue
        for _, element in attributes(value):
            parts = dict(attributes(element))
            times = [int.from_bytes(parts.get(which, b""), "big") for which in (_TIMEOUT, _EXPIRATION)]
            for which, key in attributes(parts.get(_KEY, b"")):
                if which == _VALUE and times[1]:
                    yield Member(_said(bytes(key), connections=connections), *times)


def _said(key: bytes, *, connections: bool) -> str:
    """An address; or those of both ends of a connection, each with its port, filled up to four octets."""
    if not connections:
        return str(ip_address(key))
    half = len(key) // 2
    return " . ".join(_end(key[at : at + half]) for at in (0, half))


def _end(key: bytes) -> str:
    return f"{ip_address(key[:-4])} . {int.from_bytes(key[-4:-2], 'big')}"
