"""The table `inet l3net_count`: made by the nft command, its elements put and read by netlink."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import Final

from l3net.errors import ConfigError, KernelError, RefusedError
from l3net.firewall.servicecounts import ALL, SETS, TABLE, declaration, element
from l3net.model import Prefix, ServerKey
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes
from l3net.shell.kernel.nftcommand import find_nft
from l3net.shell.kernel.nftcounters import NftCounters
from l3net.shell.kernel.nftelements import NFTABLES, element_messages, element_of

# linux/netfilter/nf_tables.h
_GETSETELEM: Final = (NFTABLES << 8) | 13
_NFPROTO_INET: Final = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _EXPRESSION, _VALUE = 1, 7, 1
_EXPRESSION_DATA, _PACKETS = 2, 2
_AT_ONCE: Final = 1500
_PATIENCE: Final = 60.0


class NftServiceCounts:
    """A ports.ServiceCounters, in the network namespace of the thread that calls."""

    def __init__(self) -> None:
        self._ports_on: frozenset[Prefix] | None = None  # of the table as it was made last
        self._elements: dict[ServerKey, tuple[str, bytes]] = {}  # of those followed
        self._keys: dict[tuple[str, bytes], ServerKey] = {}  # the other way round
        self._all = NftCounters(TABLE)
        self._found: dict[ServerKey, int] = {}  # as read last
        self._of: int | None = None  # what all had counted together then; None: others are counted since

    def follow(self, wanted: Collection[ServerKey], ports_on: Collection[Prefix]) -> None:
        """See ports.ServiceCounters."""
        self._of = None
        try:
            self._follow(wanted, frozenset(ports_on))
        except KernelError:
            self._ports_on = None  # what is there is read anew
            raise

    def change(self, come: Collection[ServerKey], gone: Collection[ServerKey]) -> None:
        """See ports.ServiceCounters."""
        self._of = None
        if self._ports_on is None:
            return
        new = {key: element(key) for key in come if key not in self._elements}
        old = {key: self._elements[key] for key in gone if key in self._elements}
        try:
            with Netlink(NETLINK_NETFILTER) as netlink:
                for found, put in ((old, False), (new, True)):
                    for name in SETS.values():
                        octets = sorted(key for its, key in found.values() if its == name)
                        _change(netlink, name, octets, put=put)
        except KernelError:
            self._ports_on = None  # what is there is read anew
            raise
        for key, where in old.items():
            del self._elements[key], self._keys[where]
        for key, where in new.items():
            self._elements[key], self._keys[where] = where, key

    def _follow(self, wanted: Collection[ServerKey], ports_on: frozenset[Prefix]) -> None:
        with Netlink(NETLINK_NETFILTER) as netlink:
            before = frozenset(self._keys)
            if anew := self._ports_on != ports_on:
                _run(declaration(ports_on))
                before = frozenset((name, key) for name in SETS.values() for key, _ in _read(netlink, name))
            for key in self._elements.keys() - set(wanted):
                del self._keys[self._elements.pop(key)]
            for key in wanted:
                if key not in self._elements:
                    self._elements[key] = element(key)
                    self._keys[self._elements[key]] = key
            for found, put in ((before - self._keys.keys(), False), (self._keys.keys() - before, True)):
                for name in SETS.values():
                    _change(netlink, name, sorted(octets for its, octets in found if its == name), put=put)
            if anew:
                self._ports_on = ports_on

    def read(self) -> dict[ServerKey, int]:
        """See ports.ServiceCounters. Of twenty thousand elements it takes the kernel ten milliseconds and
        more: not where none has counted since the last time."""
        together = self._all.read().get(ALL)  # before the elements: what comes meanwhile is read again
        if together is not None and together == self._of:
            return dict(self._found)
        found: dict[ServerKey, int] = {}
        with Netlink(NETLINK_NETFILTER) as netlink:
            for name in SETS.values():
                try:
                    counted = list(_read(netlink, name))
                except KernelError:
                    self._ports_on = None
                    raise
                for octets, packets in counted:
                    if packets and (key := self._keys.get((name, octets))) is not None:
                        found[key] = packets
        self._of, self._found = together, dict(found)
        return found


def _run(script: str) -> None:
    try:
        done = subprocess.run(
            [find_nft(), "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ConfigError) as err:
        raise KernelError(f"nft, for table inet {TABLE} ({err})", errno.EIO) from err
    if done.returncode:
        why = done.stderr.strip().partition("\n")[0]
        raise RefusedError(f"nft refuses table inet {TABLE} ({why})", errno.EINVAL)


def _change(netlink: Netlink, name: str, octets: list[bytes], *, put: bool) -> None:
    for start in range(0, len(octets), _AT_ONCE):
        some = [element_of(each) for each in octets[start : start + _AT_ONCE]]
        messages = list(element_messages(_NFPROTO_INET, name, some, put=put, table=TABLE))
        if code := netlink.commit(messages, NFTABLES):
            raise KernelError(f"elements of table inet {TABLE}", code)


def _read(netlink: Netlink, name: str) -> Iterator[tuple[bytes, int]]:
    """The elements of a set, each with its packets. All have the same attributes in the same order, so that
    the first tells where the parts of all others are."""
    body = bytes((_NFPROTO_INET, 0, 0, 0)) + attribute(_LIST_TABLE, TABLE.encode() + b"\0")
    body += attribute(_LIST_SET, name.encode() + b"\0")
    shape: struct.Struct | None = None
    for _, dumped in netlink.dump(Request(_GETSETELEM, 0, body)):
        for kind, listed in attributes(memoryview(dumped)[4:]):
            if kind != _LIST_ELEMENTS or not listed:
                continue
            octets = bytes(listed)
            shape = shape or _shape(octets)
            if len(octets) % shape.size:
                raise KernelError(f"elements of table inet {TABLE} differ in length", errno.EPROTO)
            yield from shape.iter_unpack(octets)


def _shape(octets: bytes) -> struct.Struct:
    """Where each of several elements has its key and its packets, by the first of them."""
    length = int.from_bytes(octets[:2], sys.byteorder)
    whole = octets[4:length]
    parts = dict(attributes(memoryview(whole)))
    key = bytes(next(value for kind, value in attributes(parts[_KEY]) if kind == _VALUE))
    counter = dict(attributes(dict(attributes(parts[_EXPRESSION]))[_EXPRESSION_DATA]))
    # Each value is found by its attribute's header before it.
    begin = 4 + whole.index(attribute(_VALUE, key)) + 4
    packets = 4 + whole.rindex(attribute(_PACKETS, bytes(counter[_PACKETS]))) + 4
    end = -(-length // 4) * 4
    between = packets - begin - len(key)
    return struct.Struct(f">{begin}x{len(key)}s{between}xQ{end - packets - 8}x")
