"""Writes to single objects, each with its own back-off: what fails or hangs holds up nothing but itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from l3net.errors import GoneError, L3netError
from l3net.retry import Backoff

log = logging.getLogger(__name__)

#: Seconds between two attempts on one object: doubled from the first to the second.
BACK_OFF: Final = (1.0, 60.0)
#: Writes under way at once, of each sort: an API server that hangs with Services still takes Nodes.
WRITERS: Final = 8

#: Sort and object, such as ("blocks", "n1").
Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Write:
    """One write: `value` tells whether it is the same as another of its key."""

    key: Key
    value: object
    call: Callable[[], None] = field(compare=False)


@dataclass(slots=True)
class _Entry:
    write: Write
    running: bool = False
    error: L3netError | None = None


class Writes:
    """Carries out what is wanted. `clock`: monotonic seconds. `failed` hears how long to wait for the next.
    `random`: values in [0, 1), which spread the attempts. `executor` makes threads: how many, and their name.

    Nothing is begun unless `leading`. What is not wanted any more is forgotten, its back-off with it.
    """

    def __init__(
        self,
        leading: Callable[[], bool],
        clock: Callable[[], float],
        failed: Callable[[float], None],
        random: Callable[[], float],
        back_off: tuple[float, float] = BACK_OFF,
        executor: Callable[[int, str], Executor] = ThreadPoolExecutor,
    ) -> None:
        self._executor = executor
        self._leading, self._clock, self._failed = leading, clock, failed
        self._backoff: Backoff[Key] = Backoff(*back_off, random)
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}
        self._pools: dict[str, Executor] = {}
        self._closed = False
        self.failures = 0  # attempts that failed, ever

    def want(self, writes: Iterable[Write]) -> None:
        """These and no others. Returns at once; what is due begins."""
        wanted = {write.key: write for write in writes}
        now = self._clock()
        with self._lock:
            if self._closed:
                return
            for key in [key for key, entry in self._entries.items() if not entry.running]:
                if key not in wanted:
                    del self._entries[key]
                    self._backoff.forget(key)
            for key, write in wanted.items():
                entry = self._entries.setdefault(key, _Entry(write))
                if entry.write != write:
                    self._backoff.change(key, now)
                entry.write = write
                if not entry.running and not self._backoff.waits(key, now):
                    self._begin(key, entry)

    def waiting(self) -> int:
        """Writes under way, and those that wait to be tried again."""
        with self._lock:
            return len(self._entries)

    def problems(self) -> list[str]:
        with self._lock:
            return [str(entry.error) for entry in self._entries.values() if entry.error is not None]

    def close(self) -> None:
        """Begin nothing more; what is under way goes on to its end."""
        with self._lock:
            self._closed = True
            for pool in self._pools.values():
                pool.shutdown(wait=False, cancel_futures=True)
            self._pools.clear()
            self._entries.clear()

    def _begin(self, key: Key, entry: _Entry) -> None:
        entry.running = True
        pool = self._pools.get(key[0])
        if pool is None:
            pool = self._pools[key[0]] = self._executor(WRITERS, f"write-{key[0]}")
        pool.submit(self._run, key, entry)

    def _run(self, key: Key, entry: _Entry) -> None:
        """The latest that is wanted of this object, again if something else was wanted meanwhile."""
        while True:
            with self._lock:
                write = entry.write
            error = self._attempt(write)
            wait = 0.0
            with self._lock:
                entry.error = error
                if error is None and entry.write != write:
                    continue
                entry.running = False
                if error is not None:
                    self.failures += 1
                    now = self._clock()
                    wait = self._backoff.failed(key, now) - now
                elif self._entries.get(key) is entry:
                    del self._entries[key]
                    self._backoff.forget(key)
            if error is not None:
                log.warning("%s", error)
                self._failed(wait)
            return

    def _attempt(self, write: Write) -> L3netError | None:
        if not self._leading():
            return None  # whoever leads begins anew
        try:
            write.call()
        except GoneError:
            return None  # deleted meanwhile; the watch will say so
        except L3netError as err:
            return err if self._leading() else None
        except Exception as err:  # of one object that nobody foresaw
            log.debug("%s %s", *write.key, exc_info=True)
            return L3netError(f"{write.key[0]} of {write.key[1]}: {type(err).__name__}; please report it")
        return None
