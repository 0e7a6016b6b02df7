"""The lease store: what is done in one transaction is here, how it gets on the disk in `sqlitestore`.

Which addresses are given out is decided in `addresschoice`; the tables are in `leaserows`.
"""

from __future__ import annotations

import _sqlite3 as sqlite3  # as `sqlitestore`
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from l3net.ipam.lease import (
    AlreadyLeasedError,
    HistoryEntry,
    Lease,
    LeasedAddress,
    LeaseKey,
    LeaseStoreError,
    Usage,
    Wanted,
)
from l3net.ipam.ranges import RangeSet
from l3net.late import logger
from l3net.model import Address, Prefix
from l3net.shell.files.addresschoice import Choice, taken
from l3net.shell.files.leasehistory import newest_entries, remember
from l3net.shell.files.leaserows import (
    INDEXES,
    LEASE_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    delete,
    grouped,
    insert,
    insert_idle,
    inside,
    next_sequence,
)
from l3net.shell.files.sqlitestore import LOCK_WAIT, SqliteStore
from l3net.shell.threads import REAL, Threads

if TYPE_CHECKING:
    from pathlib import Path

log = logger(__name__)


@functools.cache
def boot_id() -> str:
    """The kernel's name for this boot (random(4))."""
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - the plugin does without pathlib
        return file.read().strip()


class SqliteLeases(SqliteStore):
    """A `LeaseStore`. Thread-safe. `clock` (monotonic across suspend), `boot`, `threads` and `connect`, which
    opens the file, are given by tests.

    `named`: give the store an identity if it has none; its leases bear it, and it is in the file.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        lock_wait: float = LOCK_WAIT,
        boot: str | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        verify: bool = False,
        named: bool = False,
        threads: Threads = REAL,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        super().__init__(
            path,
            SCHEMA + "".join(f"{each};" for each in INDEXES.values()),
            SCHEMA_VERSION,
            lock_wait=lock_wait,
            verify=verify,
            threads=threads,
            connect=connect,
        )
        self._boot = boot or boot_id()
        self._clock = clock
        self._named = named
        #: Empty if it has none, or none could be written yet.
        self.identity = self._prepare(named=named)

    def _prepare(self, *, named: bool) -> str:
        """What a file of an older release lacks; on a disk that takes nothing, it does without."""

        def seen(db: sqlite3.Connection) -> tuple[set[str], str]:
            names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='index'")}
            row = db.execute("SELECT value FROM meta WHERE key='identity'").fetchone()
            return names, str(row[0]) if row is not None else ""

        def settle(db: sqlite3.Connection) -> None:
            for statement in INDEXES.values():
                db.execute(statement)
            if named:
                db.execute("INSERT OR IGNORE INTO meta VALUES('identity', ?)", (os.urandom(8).hex(),))

        indexes, identity = self.read(seen)
        if INDEXES.keys() <= indexes and (identity or not named):
            return identity
        try:
            self.transact(settle)
        except LeaseStoreError as err:
            log.warning("%s", err)
        return self.read(seen)[1]

    # --- LeaseStore --------------------------------------------------------------------------------------

    def _be_named(self) -> None:
        """Where the disk took nothing before: no lease is without the name by which it is known as ours.
        Raises LeaseStoreError."""
        if self._named and not self.identity:
            self.identity = self._prepare(named=True)
            if not self.identity:
                raise LeaseStoreError(f"{self._path}: it accepts no name; try again later", try_later=True)

    def assign(self, wanted: Wanted) -> Lease:
        self._be_named()
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
                f"SELECT {LEASE_COLUMNS} FROM lease {where} "  # noqa: S608 - constants
                "ORDER BY network, container, ifname, position",
                values,
            ).fetchall()
        )
        return grouped(rows, self.identity)

    def count(self, block: Prefix | None = None) -> int:
        """Attachments that have leases, in all or in a block."""
        where, values = inside(block)
        statement = f"SELECT count(DISTINCT sequence) FROM lease {where}"  # noqa: S608 - constants
        return int(self.read(lambda db: db.execute(statement, values).fetchone()[0]))

    def any_in(self, block: Prefix) -> bool:
        """Whether any address of a block is leased."""
        where, values = inside(block)
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
        return self.read(lambda db: _record_of(db, key))

    def find_all(self, key: LeaseKey) -> tuple[Lease | None, str | None]:
        return self.read(lambda db: (self._find(db, key), _record_of(db, key)))

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
        return self.read(lambda db: newest_entries(db, address, limit))

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
                if taken(db, lease.key.network, leased.address, exclusive=exclusive):
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

        self._be_named()
        return self.transact(work)

    # --- the work inside a transaction -------------------------------------------------------------------

    def _assign(self, db: sqlite3.Connection, wanted: Wanted) -> Lease:
        if self._find(db, wanted.key):
            raise AlreadyLeasedError(
                f"{wanted.key.container_id} {wanted.key.ifname} has addresses in network "
                f"{wanted.key.network} already; they are left as they are"
            )
        chosen = Choice(db, wanted, self._boot, self._clock()).addresses()
        return self._record(db, wanted, chosen, event="assign")

    def _record(
        self,
        db: sqlite3.Connection,
        wanted: Wanted,
        chosen: Sequence[tuple[LeasedAddress, str]],
        event: str,
        clock: float | None = None,
    ) -> Lease:
        lease = Lease(
            key=wanted.key,
            sequence=next_sequence(db),
            addresses=tuple(leased for leased, _ in chosen),
            pod=wanted.pod,
            netns=wanted.netns,
            host_ifname=wanted.host_ifname,
            assigned_at=time.time(),
            assigned_clock=self._clock() if clock is None else clock,
            boot_id=self._boot,
            store=self.identity,
        )
        insert(db, wanted, chosen, lease)
        packed = [leased.address.packed for leased in lease.addresses]
        remember(db, event, lease.key, packed, lease.pod, lease.sequence)
        return lease

    def _release(
        self, db: sqlite3.Connection, key: LeaseKey, sequence: int | None, event: str, *, used: bool
    ) -> Lease | None:
        rows = delete(db, key, sequence)
        if not rows:
            return None
        lease = grouped(rows, self.identity)[0]
        insert_idle(db, rows, next_sequence(db), self._boot, self._clock(), used=used)
        remember(db, event, key, [row[4] for row in rows], lease.pod, lease.sequence)
        return lease

    def _find(self, db: sqlite3.Connection, key: LeaseKey) -> Lease | None:
        rows = db.execute(
            f"SELECT {LEASE_COLUMNS} FROM lease WHERE network=? AND container=? AND ifname=? "  # noqa: S608
            "ORDER BY position",
            (key.network, key.container_id, key.ifname),
        ).fetchall()
        return next(iter(grouped(rows, self.identity)), None)


def _record_of(db: sqlite3.Connection, key: LeaseKey) -> str | None:
    row = db.execute(
        "SELECT record FROM extra WHERE network=? AND container=? AND ifname=?",
        (key.network, key.container_id, key.ifname),
    ).fetchone()
    return str(row[0]) if row else None
