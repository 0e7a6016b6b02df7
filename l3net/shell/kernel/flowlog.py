"""Connections as they begin, for an event loop: the kernel's events are read by a thread, and only while they
are wanted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from l3net.errors import KernelError
from l3net.explain.flows import Tracked
from l3net.ports import Began, FlowBatch
from l3net.shell.kernel.flowevents import FlowEvents

#: Seconds between batches; connections of one that are told one by one, and ends that are counted apart.
BATCH: Final = 0.5
TOLD: Final = 100
KINDS: Final = 1000
#: Batches that may wait for the loop; of more, the connections are counted as lost.
WAITING: Final = 4


class KernelFlowLog:
    """A ports.FlowLog, in the network namespace of the thread that starts it."""

    def __init__(self) -> None:
        self.problem = ""
        self._stop: threading.Event | None = None

    def start(self, heard: Callable[[FlowBatch], None]) -> None:
        """See ports.FlowLog."""
        if self._stop is not None:
            return
        try:
            events = FlowEvents()
        except KernelError as err:
            self.problem = str(err)
            return
        self.problem = ""
        self._stop = threading.Event()
        reader = _Reader(events, asyncio.get_running_loop(), heard, self._stop)
        threading.Thread(target=reader.run, name="flows", daemon=True).start()

    def stop(self) -> None:
        """See ports.FlowLog."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None


class _Reader:
    """One subscription, until it is stopped. It closes its own socket."""

    def __init__(
        self,
        events: FlowEvents,
        loop: asyncio.AbstractEventLoop,
        heard: Callable[[FlowBatch], None],
        stop: threading.Event,
    ) -> None:
        self._events, self._loop, self._heard, self._stop = events, loop, heard, stop
        self._room = threading.Semaphore(WAITING)
        self._lost = 0

    def run(self) -> None:
        try:
            while not self._stop.is_set():
                self._batch()
        except (KernelError, RuntimeError):  # the loop is closed
            return
        finally:
            self._events.close()

    def _batch(self) -> None:
        until = time.monotonic() + BATCH
        told: list[Began] = []
        counts: Counter[Tracked] = Counter()
        uncounted = 0
        while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
            for event in self._events.read(min(left, BATCH)):
                if len(told) < TOLD:
                    told.append(Began(time.time(), event.seen, event.source_port))
                if event.seen in counts or len(counts) < KINDS:
                    counts[event.seen] += 1
                else:
                    uncounted += 1
                if time.monotonic() >= until:
                    break
        lost, self._lost = self._events.lost + self._lost, 0
        self._events.lost = 0
        if not (counts or lost):
            return
        if not self._room.acquire(blocking=False):
            self._lost = lost + 1
            return
        self._loop.call_soon_threadsafe(self._tell, FlowBatch(told, counts, uncounted, lost))

    def _tell(self, batch: FlowBatch) -> None:
        self._room.release()
        if not self._stop.is_set():
            self._heard(batch)
