"""What the named counters of our table have counted, read by netlink."""

from __future__ import annotations

import errno
from typing import Final

from l3net.errors import KernelError
from l3net.naming import NFT_TABLE
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes

# linux/netfilter/nf_tables.h
_GETOBJ: Final = (10 << 8) | 19
_NFPROTO_INET: Final = 1
_OBJECT_TABLE: Final = 1
_OBJECT_NAME: Final = 2
_OBJECT_TYPE: Final = 3
_OBJECT: Final = 4
_COUNTER: Final = 1  # NFT_OBJECT_COUNTER
_PACKETS: Final = 2


class NftCounters:
    """A ports.Counters over a table of family inet, in the namespace of the thread that reads."""

    def __init__(self, table: str = NFT_TABLE) -> None:
        self._table = table

    def read(self) -> dict[str, int]:
        """See ports.Counters."""
        body = bytes((_NFPROTO_INET, 0, 0, 0))
        body += attribute(_OBJECT_TABLE, self._table.encode() + b"\0")
        body += attribute(_OBJECT_TYPE, _COUNTER.to_bytes(4, "big"))
        with Netlink(NETLINK_NETFILTER) as netlink:
            try:
                dumped = netlink.dump(Request(_GETOBJ, 0, body))
            except KernelError as err:
                if err.code == errno.ENOENT:
                    return {}
                raise
        found: dict[str, int] = {}
        for _, each in dumped:
            parts = dict(attributes(memoryview(each)[4:]))
            table = bytes(parts.get(_OBJECT_TABLE, b"")).rstrip(b"\0").decode(errors="replace")
            if table == self._table and _OBJECT_NAME in parts:
                name = bytes(parts[_OBJECT_NAME]).rstrip(b"\0").decode(errors="replace")
                values = dict(attributes(parts.get(_OBJECT, b"")))
                found[name] = int.from_bytes(values.get(_PACKETS, b""), "big")
        return found
