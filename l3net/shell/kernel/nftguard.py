"""The table `bridge l3net`: its rules by the nft command, its elements by netlink, since a process costs more
than all else that ADD does. Both in the network namespace of the thread; the socket's is that of who made it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from l3net.cni.guard import SETS, Element
from l3net.cni.guardrules import CHAINS
from l3net.errors import ConfigError, KernelError, RefusedError
from l3net.naming import NFT_TABLE
from l3net.shell.kernel import nft
from l3net.shell.kernel.netlink import (
    NETLINK_NETFILTER,
    Netlink,
    Request,
    attribute,
    attributes,
)
from l3net.shell.kernel.nftcommand import find_nft
from l3net.shell.kernel.nftelements import NFTABLES, element_messages, element_of

#: Seconds after which nft is given up.
_PATIENCE: Final = 60.0

# linux/netfilter/nf_tables.h
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM = ((NFTABLES << 8) | each for each in (1, 4, 7, 10, 13))
_NFPROTO_BRIDGE: Final = 7
_TABLE_FLAGS: Final = 2
_CHAIN_NAME: Final = 3
_CHAIN_COUNTERS: Final = 8
_SET_NAME: Final = 2
#: Name, flags, type and length of keys: all of a set that is its own, and not its elements'.
_OF_A_SET: Final = (2, 3, 4, 5)
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY: Final = 1
_KEY_END: Final = 10
_VALUE: Final = 1

#: Elements in one transaction: a datagram has to fit the socket's buffer.
_AT_ONCE: Final = 1500
_HEADER: Final = bytes((_NFPROTO_BRIDGE, 0, 0, 0))
_TABLE: Final = NFT_TABLE.encode() + b"\0"


@dataclass(frozen=True, slots=True)
class Shape:
    """The table but for its elements. `ours`: it has our chains and sets and no others, and is not dormant;
    what the chains' rules are only the digest tells, with which rules they were made."""

    digest: bytes
    ours: bool


class NftGuard:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)
        #: What notifications of elements that were changed here carry.
        self.port = self._netlink.port

    def close(self) -> None:
        self._netlink.close()

    def run(self, script: str) -> None:
        """One transaction of nft(8). Raises KernelError, RefusedError where nothing has changed."""
        try:
            done = subprocess.run(
                [find_nft(), "-f", "-"],
                input=script.encode(),
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                env={"LC_ALL": "C", "PATH": os.defpath},
            )
        except (OSError, subprocess.TimeoutExpired, ConfigError) as err:
            raise KernelError(f"nft, for table bridge {NFT_TABLE} ({err})", errno.EIO) from err
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise RefusedError(f"nft refuses table bridge {NFT_TABLE} ({why})", errno.EINVAL)

    def change(self, put: Collection[Element], delete: Collection[Element] = ()) -> None:
        """Put and delete elements; one transaction, unless they are very many. What is there may be put anew.
        Raises KernelError, with ENOENT where the table, a set, or what is to be deleted is not there."""
        gone, new = sorted(delete), sorted(put)
        for start in range(0, max(len(gone), len(new)), _AT_ONCE):
            batch = [*_messages(gone[start : start + _AT_ONCE], put=False)]
            batch += _messages(new[start : start + _AT_ONCE], put=True)
            if code := self._netlink.commit(batch, NFTABLES):
                raise KernelError(f"elements of table bridge {NFT_TABLE}", code)

    def elements(self) -> frozenset[Element] | None:
        """All there are; None where the table, or one of its sets, is not there. Raises KernelError."""
        found: set[Element] = set()
        for name in SETS:
            body = attribute(_LIST_TABLE, _TABLE) + attribute(_LIST_SET, name.encode() + b"\0")
            try:
                dumped = self._netlink.dump(Request(_GETSETELEM, 0, _HEADER + body))
            except KernelError as err:
                if err.code == errno.ENOENT:
                    return None
                raise
            found.update(element for _, each in dumped for element in _decoded(name, each))
        return frozenset(found)

    def shape(self) -> Shape | None:
        """The table as it is but for its elements, None if there is none. Raises KernelError."""
        flags = [fields.get(_TABLE_FLAGS, b"") for fields in self._objects(_GETTABLE)]
        if not flags:
            return None
        digest = hashlib.sha256(flags[0])
        chains, sets = set(), set()
        for fields in self._objects(_GETCHAIN):
            chains.add(_text(fields.get(_CHAIN_NAME, b"")))
            digest.update(b"".join(fields[each] for each in sorted(fields) if each != _CHAIN_COUNTERS))
        for fields in self._objects(_GETRULE):
            digest.update(b"".join(fields[each] for each in sorted(fields)))
        for fields in self._objects(_GETSET):
            name = _text(fields.get(_SET_NAME, b""))
            if not name.startswith("__"):  # that of a rule, with the rule
                sets.add(name)
            digest.update(b"".join(fields.get(each, b"") for each in _OF_A_SET))
        ours = chains == set(CHAINS) and sets == set(SETS) and not any(flags[0])
        return Shape(digest.digest(), ours)

    def generation(self) -> int:
        """The kernel's count of nftables transactions in the namespace of the thread. Raises KernelError."""
        return nft.generation()

    def has_link(self, name: str) -> bool:
        """Whether there is such a link in the namespace of the thread."""
        try:
            socket.if_nametoindex(name)
        except OSError:
            return False
        return True

    def _objects(self, kind: int) -> Iterator[dict[int, bytes]]:
        """The attributes of each object of a kind that is our table's."""
        for _, body in self._netlink.dump(Request(kind, 0, _HEADER + attribute(1, _TABLE))):
            fields = {each: bytes(value) for each, value in attributes(memoryview(body)[4:])}
            if fields.get(1) == _TABLE:
                yield fields


def _messages(elements: Iterable[Element], *, put: bool) -> Iterator[Request]:
    by_set: dict[str, list[bytes]] = {}
    for each in elements:
        by_set.setdefault(each.set, []).append(element_of(each.key, each.end))
    for name, found in by_set.items():
        yield from element_messages(_NFPROTO_BRIDGE, name, found, put=put)


def _decoded(name: str, body: bytes) -> Iterator[Element]:
    for kind, value in attributes(memoryview(body)[4:]):
        if kind == _LIST_ELEMENTS:
            for _, element in attributes(value):
                parts = dict(attributes(element))
                key, end = (_value(parts.get(which, b"")) for which in (_KEY, _KEY_END))
                yield Element(name, key, end)


def _value(nested: memoryview | bytes) -> bytes:
    return next((bytes(value) for kind, value in attributes(nested) if kind == _VALUE), b"")


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode(errors="replace")
