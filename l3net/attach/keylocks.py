"""One lock an attachment, so that a DEL that overtakes its ADD waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.ipam.lease import LeaseKey
from l3net.shell.threads import REAL, Lock, Threads


@dataclass(slots=True)
class KeyLocks:
    """Locks that exist only while someone holds or awaits them."""

    threads: Threads = REAL
    _held: dict[LeaseKey, tuple[Lock, int]] = field(default_factory=dict)
    _guard: Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self, key: LeaseKey, wait: float = 30.0) -> Iterator[None]:
        """Hold an attachment; waits at most `wait` seconds. Raises CniError 11."""
        with self._guard:
            lock, users = self._held.get(key, (self.threads.lock(), 0))
            self._held[key] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=wait):
                raise CniError(
                    failure.TRY_AGAIN_LATER, f"another call for {key.container_id} {key.ifname} is under way"
                )
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._held[key]
                if users == 1:
                    del self._held[key]
                else:
                    self._held[key] = (lock, users - 1)
