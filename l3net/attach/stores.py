"""The lease stores of a process without an agent: one a data directory, opened when it is first needed."""

from __future__ import annotations

import os
import threading

from l3net.cni.setup import Setup
from l3net.naming import LEASE_DB, STATE_DIR
from l3net.shell.files.leases import SqliteLeases


def _file(path: str) -> tuple[int, int] | None:
    """What tells files apart: device and inode; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at each call
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Stores:
    """Thread-safe. A file is opened once, whatever it is called: closing it a second time would give up the
    locks of the first (fcntl(2), and sqlite.org/howtocorrupt.html)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int] | None, SqliteLeases] = {}
        self._paths: dict[str, tuple[int, int] | None] = {}

    def __call__(self, setup: Setup) -> SqliteLeases:
        """The store of a configuration. Raises LeaseStoreError."""
        directory = setup.store or os.environ.get("L3NET_CNI_STATE", f"{STATE_DIR}/cni")
        path = f"{directory}/{LEASE_DB}"
        with self._lock:
            found = _file(path)
            store = self._open.get(found) if found is not None else None
            if store is not None:
                self._paths.setdefault(path, found)
                store.ensure_version()
                return store
            store = SqliteLeases(path)
            try:
                store.settle_boot()
            except BaseException:
                store.close()  # a file that stays open would be another's, once this process forks
                raise
            found = _file(path)
            self._open[found] = store
            self._paths[path] = found
        return store

    def close(self) -> None:
        """Close every file; what is asked of the stores afterwards fails."""
        with self._lock:
            for store in self._open.values():
                store.close()

    def replaced(self) -> str:
        """A file that was opened and is not there any more, or is another by now; empty if there is none."""
        with self._lock:
            return next((path for path, seen in self._paths.items() if _file(path) != seen), "")
