"""What one collector has yet to be told, as a machine: what changes is noted, and told as it is by then.

Route Monitoring is compressed by state (RFC 7854 section 5): of a prefix that changes ten times while a
collector is slow the last word is told. So what waits is a set of prefixes and never a queue of messages; a
collector that falls behind by more than `most` of them begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from l3net.bgp.bmp.messages import Monitored, route_monitoring
from l3net.bgp.path import Attributes, Path
from l3net.bgp.wire.messages import Nlri, announcements, end_of_rib, withdrawals
from l3net.model import Address, Prefix

#: Prefixes that may wait beside those of the dump.
MOST: Final = 100_000
#: Messages of sessions that may wait.
MOST_MESSAGES: Final = 10_000
#: Prefixes looked at in one step.
STEP: Final = 400

#: Of a table: whether it is the Adj-RIB-Out, the version of IP, the path identifier.
_Table: TypeAlias = tuple[bool, int, str]


class Ribs(Protocol):
    """The tables as they are now."""

    def path(self, peer: Address, prefix: Prefix, path_id: str, *, out: bool) -> Path | None:
        """As it came, or as it was sent. Raises StillStale for one that nobody has confirmed."""
        ...

    def complete(self, peer: Address, version: int, *, out: bool) -> bool:
        """Whether all of a family has been said."""
        ...


class StillStale(Exception):  # noqa: N818 - no error
    """A path of an older session, of which the collector is not to hear."""


@dataclass(slots=True)
class _Waiting:
    """Of one table: what is being told, the next one last, and what has changed meanwhile."""

    taken: list[Prefix] = field(default_factory=list)
    changed: dict[Prefix, None] = field(default_factory=dict)
    there_before: bool = False  # what is taken; when it came is not known

    def __len__(self) -> int:
        return len(self.taken) + len(self.changed)

    def take(self, count: int) -> list[Prefix]:
        if not self.taken:
            self.taken, self.changed, self.there_before = list(reversed(self.changed)), {}, False
        found = self.taken[-count:]
        del self.taken[-count:]
        return found


@dataclass(slots=True)
class _Peer:
    monitored: Monitored
    waiting: dict[_Table, _Waiting] = field(default_factory=dict)
    ends: set[tuple[bool, int]] = field(default_factory=set)  # End-of-RIB is due: out or in, version


class Feed:
    """`next` tells; everything else notes."""

    def __init__(self, ribs: Ribs, most: int = MOST) -> None:
        self._ribs = ribs
        self._beside = self._most = most
        self._messages: deque[bytes] = deque()
        self._peers: dict[Address, _Peer] = {}
        self.waiting = 0  # prefixes
        self.told = 0  # messages
        self.overrun = False

    # --- what is noted -----------------------------------------------------------------------------------

    def say(self, message: bytes) -> None:
        """A message of its own, before all that waits."""
        if len(self._messages) >= MOST_MESSAGES:
            self.overrun = True
            return
        self._messages.append(message)

    def up(
        self,
        monitored: Monitored,
        message: bytes,
        versions: Iterable[int],
        tables: Mapping[_Table, Iterable[Prefix]],
    ) -> None:
        """A session is up, or was when the collector came: `message` says so, and its tables follow."""
        self.gone(monitored.address)
        self.say(message)
        peer = self._peers[monitored.address] = _Peer(monitored)
        peer.waiting = {table: _Waiting(list(there), there_before=True) for table, there in tables.items()}
        peer.ends = {(out, version) for version in versions for out in (False, True)}
        held = sum(map(len, peer.waiting.values()))
        self.waiting += held
        self._most += held

    def down(self, address: Address, message: bytes) -> None:
        """It has ended; that says all of its routes."""
        if address in self._peers:
            self.gone(address)
            self.say(message)

    def gone(self, address: Address) -> None:
        """Nothing more is told of a peer."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            self.waiting -= sum(map(len, peer.waiting.values()))

    def changed(self, address: Address, prefixes: Iterable[Prefix], path_id: str = "", *, out: bool) -> None:
        """Something is to be told of these."""
        peer = self._peers.get(address)
        if peer is None:
            return
        for prefix in prefixes:
            key = out, prefix.version, path_id
            table = peer.waiting.get(key)
            if table is None:
                table = peer.waiting[key] = _Waiting()
            if prefix not in table.changed:
                table.changed[prefix] = None
                self.waiting += 1
        if self.waiting > self._most:
            self.overrun = True

    # --- what is told ------------------------------------------------------------------------------------

    def next(self, at: float) -> bytes:
        """The next messages, some tens of KiB of them; empty when all is told. `at` in seconds since 1970."""
        if self._messages:
            found = b"".join(self._messages)
            self.told += len(self._messages)
            self._messages.clear()
            return found
        for peer in self._peers.values():
            for table, waiting in list(peer.waiting.items()):
                if waiting:
                    return self._some(peer, table, waiting, at)
                del peer.waiting[table]
        self._most = self._beside
        return self._ends(at)

    @property
    def idle(self) -> bool:
        """Whether nothing waits; End-of-RIB markers may be due."""
        return not (self.waiting or self._messages)

    def _some(self, peer: _Peer, table: _Table, waiting: _Waiting, at: float) -> bytes:
        out, _, path_id = table
        address = peer.monitored.address
        announced: dict[tuple[Address, Attributes], list[Nlri]] = {}
        withdrawn: list[Nlri] = []
        some = waiting.take(STEP)
        when = 0.0 if waiting.there_before else at
        for prefix in some:
            try:
                path = self._ribs.path(address, prefix, path_id, out=out)
            except StillStale:
                continue
            if path is None:
                withdrawn.append((prefix, path_id))
            else:
                announced.setdefault((path.next_hop, path.attributes), []).append((prefix, path_id))
        self.waiting -= len(some)
        updates = list(withdrawals(withdrawn))
        for (next_hop, attributes), paths in announced.items():
            updates += announcements(attributes, next_hop, paths)
        self.told += len(updates)
        return b"".join(route_monitoring(peer.monitored, update, when, out=out) for update in updates)

    def _ends(self, at: float) -> bytes:
        """End-of-RIB of each table that is told, once its peer has said all (RFC 7854 section 5)."""
        found = []
        for address, peer in self._peers.items():
            for out, version in sorted(peer.ends):
                if self._ribs.complete(address, version, out=out):
                    peer.ends.discard((out, version))
                    found.append(route_monitoring(peer.monitored, end_of_rib(version), at, out=out))
        self.told += len(found)
        return b"".join(found)
