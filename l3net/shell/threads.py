"""Time, and what threads wait with, as code that blocks is given them: the interpreter's, or a test's.

Locks are none of them, since nobody waits for the world while holding one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Protocol


class Event(Protocol):
    """As threading.Event."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Started(Protocol):
    """A thread that runs, or has ended."""

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool: ...


def _start(target: Callable[[], None], name: str) -> Started:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


@dataclass(frozen=True, slots=True)
class Threads:
    """`start` begins a thread that nobody waits for at the end of the process; `executor` has as many workers
    as said, whose names begin as said; `monotonic` and `wall` give seconds, the latter since 1970; `random`
    spreads what many do."""

    start: Callable[[Callable[[], None], str], Started] = _start
    event: Callable[[], Event] = threading.Event
    executor: Callable[[int, str], Executor] = ThreadPoolExecutor
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(default_factory=Random)


REAL = Threads()
