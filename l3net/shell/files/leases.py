"""The lease store: which statement does what is here, how it gets on the disk in `sqlitestore`.

Never used addresses are counted up by a cursor a range; released ones wait in `idle`, oldest first.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from l3net.ipam.lease import (
    AddressUnavailableError,
    AlreadyLeasedError,
    ExhaustedError,
    HistoryEntry,
    Lease,
    LeasedAddress,
    LeaseKey,
    LeaseStoreError,
    Pod,
    Usage,
    Wanted,
)
from l3net.ipam.ranges import Range, RangeSet
from l3net.model import Address, Prefix
from l3net.shell.files.sqlitestore import LOCK_WAIT, SqliteStore

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
#: Rows of history that are kept, about 180 octets each.
HISTORY_LIMIT: Final = 20000
#: Rows of history after which the oldest are looked for, and the most that go at once: a pod waits for it.
_TRIM_EVERY: Final = 128
_TRIM_MOST: Final = 2048
#: Assignments and releases after which an address of a large range is used again rather than a new one: so
#: many idle addresses at most are kept of an IPv6 block that never runs out of new ones.
IDLE_LIMIT: Final = 20000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease(
  network TEXT, address BLOB, prefix_length INTEGER, gateway BLOB, range TEXT, position INTEGER,
  container TEXT, ifname TEXT, sequence INTEGER, netns TEXT, host_ifname TEXT,
  pod_namespace TEXT, pod_name TEXT, pod_uid TEXT, assigned_at REAL, assigned_clock REAL, boot_id TEXT,
  cool_down REAL, sticky_owner TEXT, sticky_hold REAL,
  PRIMARY KEY(network, address)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lease_by_key ON lease(network, container, ifname, position);
CREATE TABLE IF NOT EXISTS idle(
  network TEXT, address BLOB, range TEXT, freed INTEGER, boot_id TEXT, ready_at REAL,
  sticky_owner TEXT, held_until REAL, PRIMARY KEY(network, address)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idle_by_age ON idle(network, range, freed);
CREATE INDEX IF NOT EXISTS idle_by_owner ON idle(network, sticky_owner) WHERE sticky_owner <> '';
CREATE TABLE IF NOT EXISTS cursor(
  network TEXT, range TEXT, next BLOB, PRIMARY KEY(network, range)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extra(
  network TEXT, container TEXT, ifname TEXT, record TEXT,
  PRIMARY KEY(network, container, ifname)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history(
  id INTEGER PRIMARY KEY, at REAL, event TEXT, network TEXT, address BLOB, container TEXT, ifname TEXT,
  pod_namespace TEXT, pod_name TEXT, pod_uid TEXT, sequence INTEGER);
"""
#: Made at every opening where they are missing, so that an older release may use the file as well.
_INDEXES = {
    "lease_by_address": "CREATE INDEX IF NOT EXISTS lease_by_address ON lease(address)",
    "idle_by_address": "CREATE INDEX IF NOT EXISTS idle_by_address ON idle(address)",
}
_LEASE_COLUMNS = (
    "network, container, ifname, sequence, address, prefix_length, gateway, pod_namespace, pod_name, pod_uid,"
    " netns, host_ifname, assigned_at, assigned_clock, boot_id"
)


def boot_id() -> str:
    """The kernel's name for this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def unpack(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


class SqliteLeases(SqliteStore):
    """A `LeaseStore`. Thread-safe. `clock` (monotonic across suspend) and `boot` are given by tests.

    `named`: give the store an identity if it has none; its leases bear it, and it is in the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock_wait: float = LOCK_WAIT,
        boot: str | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        verify: bool = False,
        named: bool = False,
    ) -> None:
        super().__init__(
            path,
            _SCHEMA,
            SCHEMA_VERSION,
            lock_wait=lock_wait,
            verify=verify,
        )
        self._boot = boot or boot_id()
        self._clock = clock
        #: Empty if it has none, or none could be written.
        self.identity = self._prepare(named=named)

    def _prepare(self, *, named: bool) -> str:
        """What a file of an older release lacks; on a disk that takes nothing, it does without."""

        def seen(db: sqlite3.Connection) -> tuple[set[str], str]:
            names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='index'")}
            row = db.execute("SELECT value FROM meta WHERE key='identity'").fetchone()
            return names, str(row[0]) if row is not None else ""

        def settle(db: sqlite3.Connection) -> None:
            for statement in _INDEXES.values():
                db.execute(statement)
            if named:
                db.execute("INSERT OR IGNORE INTO meta VALUES('identity', ?)", (secrets.token_hex(8),))

        indexes, identity = self.read(seen)
        if _INDEXES.keys() <= indexes and (identity or not named):
            return identity
        try:
            self.transact(settle)
        except LeaseStoreError as err:
            log.warning("%s", err)
        return self.read(seen)[1]

    # --- LeaseStore --------------------------------------------------------------------------------------

    def assign(self, wanted: Wanted) -> Lease:
        return self.transact(lambda db: self._assign(db, wanted))

    def release(
        self, key: LeaseKey, *, sequence: int | None = None, event: str = "release", used: bool = True
    ) -> Lease | None:
        return self.transact(lambda db: self._release(db, key, sequence, event, used=used))

    def find(self, key: LeaseKey) -> Lease | None:
        return self.read(lambda db: self._find(db, key))

    def leases(self, network: str | None = None) -> Sequence[Lease]:
        where, values = ("WHERE network=?", (network,)) if network is not None else ("", ())
        rows = self.read(
            lambda db: db.execute(
                f"SELECT {_LEASE_COLUMNS} FROM lease {where} "  # noqa: S608 - constants
                "ORDER BY network, container, ifname, position",
                values,
            ).fetchall()
        )
        return self._group(rows)

    def count(self, block: Prefix | None = None) -> int:
        """Attachments that have leases, in all or in a block."""
        where, values = _inside(block)
        statement = f"SELECT count(DISTINCT sequence) FROM lease {where}"  # noqa: S608 - constants
        return int(self.read(lambda db: db.execute(statement, values).fetchone()[0]))

    def any_in(self, block: Prefix) -> bool:
        """Whether any address of a block is leased."""
        where, values = _inside(block)
        statement = f"SELECT 1 FROM lease {where} LIMIT 1"  # noqa: S608 - constants
        return self.read(lambda db: db.execute(statement, values).fetchone()) is not None

    def usage(self, network: str | None, sets: Sequence[RangeSet]) -> Usage:
        """Leased and cooling addresses inside the sets, of one network or all."""

        def count(db: sqlite3.Connection) -> Usage:
            leased = cooling = 0
            for entry in (entry for each in sets for entry in each.ranges):
                bounds: tuple[object, ...] = (entry.start.packed, entry.end.packed)
                between = "WHERE address BETWEEN ? AND ?"
                if network is not None:
                    bounds, between = (network, *bounds), "WHERE network=? AND address BETWEEN ? AND ?"
                width = f"AND length(address)={entry.subnet.max_prefixlen // 8}"
                leased += db.execute(f"SELECT count(*) FROM lease {between} {width}", bounds).fetchone()[0]  # noqa: S608
                cooling += db.execute(
                    f"SELECT count(*) FROM idle {between} {width} AND boot_id=? AND ready_at>?",  # noqa: S608
                    (*bounds, self._boot, self._clock()),
                ).fetchone()[0]
            return Usage(leased, cooling)

        return self.read(count)

    def probe(self) -> None:
        """A statement that may write and does not: BEGIN IMMEDIATE alone succeeds on a read-only disk."""
        self.transact(lambda db: db.execute("DELETE FROM meta WHERE key=''").close())

    def keep_record(self, key: LeaseKey, record: str) -> None:
        """Keep what must be undone beside the addresses, before it is done."""
        values = (key.network, key.container_id, key.ifname, record)
        self.transact(lambda db: db.execute("INSERT OR REPLACE INTO extra VALUES(?,?,?,?)", values).close())

    def find_record(self, key: LeaseKey) -> str | None:
        values = (key.network, key.container_id, key.ifname)
        row = self.read(
            lambda db: db.execute(
                "SELECT record FROM extra WHERE network=? AND container=? AND ifname=?", values
            ).fetchone()
        )
        return str(row[0]) if row else None

    def drop_record(self, key: LeaseKey) -> None:
        values = (key.network, key.container_id, key.ifname)
        self.transact(
            lambda db: db.execute(
                "DELETE FROM extra WHERE network=? AND container=? AND ifname=?", values
            ).close()
        )

    def records(self, network: str | None = None) -> Sequence[tuple[LeaseKey, str]]:
        """Every record kept, of one network or all."""
        rows = self.read(
            lambda db: db.execute(
                "SELECT network, container, ifname, record FROM extra WHERE ? IS NULL OR network=?",
                (network, network),
            ).fetchall()
        )
        return [(LeaseKey(*row[:3]), row[3]) for row in rows]

    # --- for people and the audit ------------------------------------------------------------------------

    def holder(self, address: Address) -> Sequence[Lease]:
        """The leases that hold an address, in any network."""
        keys = self.read(
            lambda db: db.execute(
                "SELECT network, container, ifname FROM lease WHERE address=?", (address.packed,)
            ).fetchall()
        )
        return [lease for key in keys if (lease := self.find(LeaseKey(*key)))]

    def history(self, address: Address | None = None, limit: int = 100) -> Sequence[HistoryEntry]:
        """The newest assignments and releases first."""
        packed = address.packed if address else None
        rows = self.read(
            lambda db: db.execute(
                "SELECT at, event, address, network, container, ifname, pod_namespace, pod_name, pod_uid, "
                "sequence FROM history WHERE ? IS NULL OR address=? ORDER BY id DESC LIMIT ?",
                (packed, packed, limit),
            ).fetchall()
        )
        return [
            HistoryEntry(row[0], row[1], unpack(row[2]), LeaseKey(*row[3:6]), Pod(*row[6:9]), row[9])
            for row in rows
        ]

    def release_other_boots(self) -> list[Lease]:
        """A reboot frees what died with it: leases made in another boot than this one."""
        return [
            lease
            for lease in self.leases()
            if lease.boot_id != self._boot
            and self.release(lease.key, sequence=lease.sequence, event="reboot")
        ]

    def settle_boot(self) -> list[Lease]:
        """As `release_other_boots`, at the first call after a boot only; cheap afterwards."""
        row = self.read(lambda db: db.execute("SELECT value FROM meta WHERE key='boot'").fetchone())
        if row is not None and row[0] == self._boot:
            return []
        released = self.release_other_boots()
        self.transact(
            lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES('boot', ?)", (self._boot,)).close()
        )
        return released

    def adopt(
        self, lease: Lease, *, cool_down: float = 60.0, event: str = "import", exclusive: bool = False
    ) -> bool:
        """Record a lease found elsewhere (another store, the kernel). False if an address is taken.

        It counts as made at the beginning of this boot: a DEL that was spooled before now is meant for it.
        """

        def work(db: sqlite3.Connection) -> bool:
            for leased in lease.addresses:
                if self._taken(db, lease.key.network, leased.address, exclusive=exclusive):
                    return False
                values = (lease.key.network, leased.address.packed)
                db.execute("DELETE FROM idle WHERE network=? AND address=?", values)
            wanted = Wanted(
                key=lease.key,
                sets=(),
                pod=lease.pod,
                netns=lease.netns,
                host_ifname=lease.host_ifname,
                cool_down=cool_down,
            )
            self._record(db, wanted, [(leased, "") for leased in lease.addresses], event=event, clock=0.0)
            return True

        return self.transact(work)

    # --- the work inside a transaction -------------------------------------------------------------------

    def _assign(self, db: sqlite3.Connection, wanted: Wanted) -> Lease:
        if self._find(db, wanted.key):
            raise AlreadyLeasedError(
                f"{wanted.key.container_id} {wanted.key.ifname} has addresses in network "
                f"{wanted.key.network} already; they are left as they are"
            )
        asked = list(wanted.asked)
        chosen: list[tuple[LeasedAddress, str]] = []
        for each in wanted.sets:
            named = next((address for address in asked if each.holding(address)), None)
            if named is not None:
                asked.remove(named)
                entry = each.holding(named)
                assert entry is not None  # noqa: S101 - just found
                if self._taken(db, wanted.key.network, named, exclusive=wanted.exclusive):
                    raise AddressUnavailableError(f"address {named} is taken in network {wanted.key.network}")
                self._wake(db, wanted, named.packed)
                address = named
            else:
                address, entry = self._choose(db, wanted, each)
            chosen.append((LeasedAddress(address, entry.prefix_length, entry.gateway), entry.key))
        if asked:
            raise AddressUnavailableError(
                f"address {asked[0]} asked for is in none of the ranges of network {wanted.key.network}, "
                "or reserved"
            )
        return self._record(db, wanted, chosen, event="assign")

    def _choose(self, db: sqlite3.Connection, wanted: Wanted, each: RangeSet) -> tuple[Address, Range]:
        network, now = wanted.key.network, self._clock()
        if wanted.sticky_owner:
            rows = db.execute(
                "SELECT address FROM idle WHERE network=? AND sticky_owner=?", (network, wanted.sticky_owner)
            )
            for (packed,) in rows.fetchall():
                if (entry := each.holding(unpack(packed))) and not self._elsewhere(db, wanted, packed):
                    self._wake(db, wanted, packed)
                    return unpack(packed), entry
        for entry in each.ranges:
            if self._many_idle(db, wanted, entry) and (
                address := self._oldest_idle(db, wanted, entry, now, longest_only=True)
            ):
                return address, entry
            if address := self._never_used(db, wanted, entry):
                return address, entry
            if address := self._oldest_idle(db, wanted, entry, now):
                return address, entry
        usage = f"all {each.size} addresses of {each}"
        raise ExhaustedError(
            f"no address free in network {network}: {usage} are leased or in their cool-down of "
            f"{wanted.cool_down:g} s"
        )

    def _elsewhere(self, db: sqlite3.Connection, wanted: Wanted, packed: bytes) -> bool:
        """Whether another network holds an idle address, where that counts."""
        return wanted.exclusive and self._taken(db, wanted.key.network, unpack(packed), exclusive=True)

    @staticmethod
    def _wake(db: sqlite3.Connection, wanted: Wanted, packed: bytes) -> None:
        """An address is idle no more."""
        db.execute(
            "DELETE FROM idle WHERE address=? AND (? OR network=?)",
            (packed, wanted.exclusive, wanted.key.network),
        )

    def _many_idle(self, db: sqlite3.Connection, wanted: Wanted, entry: Range) -> bool:
        """Whether the oldest idle address of a large range was released that many events ago."""
        if entry.size <= IDLE_LIMIT:
            return False
        oldest = db.execute(
            "SELECT min(freed), (SELECT value FROM meta WHERE key='sequence') FROM idle "
            "WHERE network=? AND range=?",
            (wanted.key.network, entry.key),
        ).fetchone()
        return oldest[0] is not None and oldest[1] - oldest[0] > IDLE_LIMIT

    def _never_used(self, db: sqlite3.Connection, wanted: Wanted, entry: Range) -> Address | None:
        """The next address no one had; each is stepped over once, so the cost does not grow with leases."""
        network = wanted.key.network
        row = db.execute(
            "SELECT next FROM cursor WHERE network=? AND range=?", (network, entry.key)
        ).fetchone()
        value = int.from_bytes(row[0], "big") if row else int(entry.start)
        last, width = int(entry.end), entry.subnet.max_prefixlen // 8
        found: Address | None = None
        start = value
        while value <= last and found is None:
            candidate = unpack(value.to_bytes(width, "big"))
            value += 1
            if candidate in entry and not self._known(db, wanted, candidate):
                found = candidate
        if value != start:
            db.execute(
                "INSERT OR REPLACE INTO cursor VALUES(?,?,?)",
                (network, entry.key, value.to_bytes(width + 1, "big")),
            )
        return found

    def _oldest_idle(
        self, db: sqlite3.Connection, wanted: Wanted, entry: Range, now: float, *, longest_only: bool = False
    ) -> Address | None:
        """The address longest released, once cool; held ones only when nothing else is left.

        `longest_only`: only one that was released under this very range and is held for nobody.
        """
        ready = "(boot_id<>? OR ready_at<=?)"
        free = "(sticky_owner='' OR held_until<=? OR boot_id<>?)"
        network = wanted.key.network
        within = f"address BETWEEN ? AND ? AND length(address)=? AND {ready}"
        bounds = (entry.start.packed, entry.end.packed, len(entry.start.packed), self._boot, now)
        queries: list[tuple[str, tuple[object, ...]]] = [
            (
                f"network=? AND range=? AND {ready} AND {free}",
                (network, entry.key, self._boot, now, now, self._boot),
            ),
            # addresses released under another configuration of the range, and those held for an owner
            (f"network=? AND {within}", (network, *bounds)),
        ]
        if wanted.exclusive:
            queries.append((within, bounds))  # and by another network
        for condition, values in queries[:1] if longest_only else queries:
            rows = db.execute(
                f"SELECT address FROM idle WHERE {condition} ORDER BY freed LIMIT 16",  # noqa: S608
                values,
            )
            for (packed,) in rows.fetchall():
                if unpack(packed) in entry and not self._elsewhere(db, wanted, packed):
                    self._wake(db, wanted, packed)
                    return unpack(packed)
        return None

    def _record(
        self,
        db: sqlite3.Connection,
        wanted: Wanted,
        chosen: Sequence[tuple[LeasedAddress, str]],
        event: str,
        clock: float | None = None,
    ) -> Lease:
        sequence = self._next(db)
        at, key, pod = time.time(), wanted.key, wanted.pod
        clock = self._clock() if clock is None else clock
        db.executemany(
            "INSERT INTO lease VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    key.network,
                    leased.address.packed,
                    leased.prefix_length,
                    leased.gateway.packed if leased.gateway else None,
                    range_key,
                    position,
                    key.container_id,
                    key.ifname,
                    sequence,
                    wanted.netns,
                    wanted.host_ifname,
                    pod.namespace,
                    pod.name,
                    pod.uid,
                    at,
                    clock,
                    self._boot,
                    wanted.cool_down,
                    wanted.sticky_owner,
                    wanted.sticky_hold,
                )
                for position, (leased, range_key) in enumerate(chosen)
            ],
        )
        self._remember(db, event, key, [leased.address.packed for leased, _ in chosen], pod, sequence)
        return Lease(
            key=key,
            sequence=sequence,
            addresses=tuple(leased for leased, _ in chosen),
            pod=pod,
            netns=wanted.netns,
            host_ifname=wanted.host_ifname,
            assigned_at=at,
            assigned_clock=clock,
            boot_id=self._boot,
            store=self.identity,
        )

    def _release(
        self, db: sqlite3.Connection, key: LeaseKey, sequence: int | None, event: str, *, used: bool
    ) -> Lease | None:
        rows = db.execute(
            "DELETE FROM lease WHERE network=?1 AND container=?2 AND ifname=?3 "  # noqa: S608 - constants
            "AND (?4 IS NULL OR sequence=?4) "
            f"RETURNING {_LEASE_COLUMNS}, position, range, cool_down, sticky_owner, sticky_hold",
            (key.network, key.container_id, key.ifname, sequence),
        ).fetchall()
        if not rows:
            return None
        rows.sort(key=lambda row: row[15])
        lease, now, freed = self._group(rows)[0], self._clock(), self._next(db)
        db.executemany(
            "INSERT OR REPLACE INTO idle VALUES(?,?,?,?,?,?,?,?)",
            [
                (
                    key.network,
                    row[4],
                    range_key,
                    freed,
                    self._boot,
                    now + (cool_down if used else 0.0),
                    sticky_owner,
                    now + sticky_hold,
                )
                for row in rows
                for range_key, cool_down, sticky_owner, sticky_hold in (row[16:],)
            ],
        )
        self._remember(db, event, key, [row[4] for row in rows], lease.pod, lease.sequence)
        return lease

    def _find(self, db: sqlite3.Connection, key: LeaseKey) -> Lease | None:
        rows = db.execute(
            f"SELECT {_LEASE_COLUMNS} FROM lease WHERE network=? AND container=? AND ifname=? "  # noqa: S608
            "ORDER BY position",
            (key.network, key.container_id, key.ifname),
        ).fetchall()
        return next(iter(self._group(rows)), None)

    @staticmethod
    def _taken(db: sqlite3.Connection, network: str, address: Address, *, exclusive: bool) -> bool:
        row = db.execute(
            "SELECT 1 FROM lease WHERE address=? AND (? OR network=?)", (address.packed, exclusive, network)
        ).fetchone()
        return row is not None

    def _known(self, db: sqlite3.Connection, wanted: Wanted, address: Address) -> bool:
        """Leased or idle. Idle addresses are handed out by age, not by number."""
        row = db.execute(
            "SELECT 1 FROM lease WHERE address=?2 AND (?3 OR network=?1) "
            "UNION ALL SELECT 1 FROM idle WHERE address=?2 AND (?3 OR network=?1)",
            (wanted.key.network, address.packed, wanted.exclusive),
        ).fetchone()
        return row is not None

    def _group(self, rows: Sequence[tuple[Any, ...]]) -> list[Lease]:
        return _group(rows, self.identity)

    @staticmethod
    def _next(db: sqlite3.Connection) -> int:
        row = db.execute(
            "INSERT INTO meta VALUES('sequence', 1) "
            "ON CONFLICT(key) DO UPDATE SET value=value+1 RETURNING value"
        ).fetchone()
        return int(row[0])

    @staticmethod
    def _remember(
        db: sqlite3.Connection, event: str, key: LeaseKey, addresses: Sequence[bytes], pod: Pod, sequence: int
    ) -> None:
        at = time.time()
        db.executemany(
            "INSERT INTO history(at, event, network, address, container, ifname, pod_namespace, pod_name, "
            "pod_uid, sequence) VALUES(?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    at,
                    event,
                    key.network,
                    address,
                    key.container_id,
                    key.ifname,
                    pod.namespace,
                    pod.name,
                    pod.uid,
                    sequence,
                )
                for address in addresses
            ],
        )
        newest, oldest = db.execute(
            "SELECT (SELECT max(id) FROM history), (SELECT min(id) FROM history)"
        ).fetchone()
        if newest is not None and newest % _TRIM_EVERY < len(addresses):
            doomed = min(newest - HISTORY_LIMIT, oldest + _TRIM_MOST)
            db.execute("DELETE FROM history WHERE id <= ?", (doomed,))


def _inside(block: Prefix | None) -> tuple[str, tuple[object, ...]]:
    """The condition for addresses of a block: SQLite compares blobs octet by octet."""
    if block is None:
        return "", ()
    first, last = block.network_address.packed, block.broadcast_address.packed
    return "WHERE address BETWEEN ? AND ? AND length(address)=?", (first, last, len(first))


def _group(rows: Sequence[tuple[Any, ...]], store: str) -> list[Lease]:
    """Rows in the order of attachments and positions, one lease for each attachment."""
    leases: list[Lease] = []
    for row in rows:
        key = LeaseKey(row[0], row[1], row[2])
        leased = LeasedAddress(unpack(row[4]), row[5], unpack(row[6]) if row[6] else None)
        if leases and leases[-1].key == key:
            leases[-1] = replace(leases[-1], addresses=(*leases[-1].addresses, leased))
        else:
            leases.append(
                Lease(
                    key,
                    row[3],
                    (leased,),
                    Pod(*row[7:10]),
                    row[10],
                    row[11],
                    row[12],
                    row[13],
                    row[14],
                    store,
                )
            )
    return leases
