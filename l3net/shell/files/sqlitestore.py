"""An SQLite file whose callers share transactions: write-ahead log, synchronous=FULL, group commit.

A call returns after its transaction is on the disk. Threads that arrive while another's commit is under way
share the next one, so eight at once pay for one fsync. Several processes may use the same file; SQLite's lock
bounds the wait. A damaged file is refused, never replaced.
"""

from __future__ import annotations

import _sqlite3 as sqlite3  # without its adapters of dates, which take 1 ms and are not used
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from l3net.ipam.lease import LeaseStoreError
from l3net.shell.threads import REAL, Threads

if TYPE_CHECKING:
    from pathlib import Path

#: Octets of the write-ahead log that stay on the disk. It is written back every thousand pages, about as many
#: octets, and grows beyond only while another process reads.
LOG_LIMIT: Final = 4 << 20
LOCK_WAIT: Final = 5.0  # seconds for another process's transaction

#: Errors of SQLite's that say something of a statement and its values, and nothing of the file.
_CALLERS_OWN: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Call(Generic[T]):
    """One caller's part of a transaction."""

    work: Callable[[sqlite3.Connection], T]
    result: T | None = None
    error: BaseException | None = None
    done: bool = False


@dataclass(slots=True)
class _Queue:
    """Those that wait for the next transaction."""

    waiting: deque[_Call[Any]] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)


class SqliteStore:
    """One file. Thread-safe. Whatever fails in one caller's part undoes that part, and no other's.

    Only what is wrong with the file itself, as SQLite tells it, is everybody's.
    """

    def __init__(
        self,
        path: Path | str,
        schema: str,
        version: int,
        *,
        lock_wait: float = LOCK_WAIT,
        verify: bool = False,
        threads: Threads = REAL,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        self._path = path
        self._schema = schema
        self._version = version
        self._lock_wait = lock_wait
        self._queue = _Queue()
        self._turn = threads.lock()
        self._connect = connect
        with self.translated():
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120 - no pathlib in a plugin
            self._for_root_alone()
            self._connection = self._open(verify=verify)

    def close(self) -> None:
        with self._turn:
            self._connection.close()

    def _for_root_alone(self) -> None:
        """Before SQLite opens it: the log and its index get the mode of the file (sqlite.org/wal.html)."""
        with suppress(OSError):  # a read-only disk, which a store that is there can be read from
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for suffix in ("", "-wal", "-shm", "-journal"):
            path = f"{self._path}{suffix}"
            with suppress(OSError):
                if os.stat(path).st_mode & 0o077:  # noqa: PTH116
                    os.chmod(path, 0o600)  # noqa: PTH101

    def _open(self, *, verify: bool) -> sqlite3.Connection:
        db = self._connect(self._path, timeout=self._lock_wait, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
            found = db.execute("PRAGMA user_version").fetchone()[0]
            self._refuse_newer(found)
            if found < self._version:
                db.executescript(
                    f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version={self._version}; COMMIT;"
                )
            if verify:
                verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"damaged: {verdict}")
        except BaseException:
            db.close()
            raise
        return db

    def ensure_version(self) -> None:
        """Another release may have taken the file over since it was opened. Raises LeaseStoreError."""
        self._refuse_newer(self.read(lambda db: int(db.execute("PRAGMA user_version").fetchone()[0])))

    def _refuse_newer(self, found: int) -> None:
        if found > self._version:
            raise LeaseStoreError(
                f"{self._path}: written by a newer release (schema {found}, this one knows "
                f"{self._version}); run that release, or see docs/ipam.md to rebuild the store"
            )

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction shared with whoever else is waiting; return once it is on the disk."""
        call = _Call(work)
        with self._queue.lock:
            self._queue.waiting.append(call)
        with self._turn:  # the one who gets the turn carries out everybody's call, and finds its own done
            if not call.done:
                with self._queue.lock:
                    batch = list(self._queue.waiting)
                    self._queue.waiting.clear()
                self._commit(batch)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def _commit(self, batch: list[_Call[Any]]) -> None:
        """One transaction; once more on a file that was opened on a read-only disk, if that is over."""
        self._carry_out(batch)
        if any(_says_read_only(call.error) for call in batch) and self._opened_again():
            for call in batch:
                call.error, call.result = None, None
            self._carry_out(batch)

    def _carry_out(self, batch: list[_Call[Any]]) -> None:
        db = self._connection
        try:
            with self.translated():
                db.execute("BEGIN IMMEDIATE")
                for call in batch:
                    self._attempt(db, call, alone=len(batch) == 1)
                db.execute("ROLLBACK" if all(call.error is not None for call in batch) else "COMMIT")
        except BaseException as err:
            if db.in_transaction:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            for call in batch:
                call.error = call.error or err
        finally:
            for call in batch:
                call.done = True

    def _opened_again(self) -> bool:
        """A file that was opened on a read-only disk stays so for who has it open, and the disk does not."""
        try:
            opened = self._open(verify=False)
        except (sqlite3.Error, LeaseStoreError):
            return False
        self._connection.close()
        self._connection = opened
        return True

    def _attempt(self, db: sqlite3.Connection, call: _Call[Any], *, alone: bool) -> None:
        """One call inside the transaction: its failure undoes its own changes and no other's."""
        if not alone:
            db.execute("SAVEPOINT call")
        try:
            call.result = call.work(db)
        except Exception as err:
            if isinstance(err, sqlite3.Error) and not isinstance(err, _CALLERS_OWN):
                raise  # the disk, the file, the lock: nobody's call can be carried out
            call.error = err
            if not alone:
                db.execute("ROLLBACK TO call")
        if not alone:
            db.execute("RELEASE call")

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._turn, self.translated():
            return work(self._connection)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as err:
            text = str(err)
            if "full" in text or "locked" in text or "busy" in text:
                raise LeaseStoreError(f"{self._path}: {text}; try again later", try_later=True) from err
            raise LeaseStoreError(f"{self._path}: {text}") from err
        except sqlite3.DatabaseError as err:
            raise LeaseStoreError(
                f"{self._path}: {err}; the lease store is damaged and was left as it is: "
                "see docs/ipam.md, 'Rebuilding the store'"
            ) from err
        except OSError as err:
            raise LeaseStoreError(f"{self._path}: {err.strerror}") from err


def _says_read_only(found: BaseException | None) -> bool:
    while found is not None:
        if getattr(found, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
            return True
        found = found.__cause__
    return False
