"""Time, and what threads wait with, as code that blocks is given them: the interpreter's, or a test's.

Whoever waits for the world while holding a lock takes it from here, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from random import Random


class Event(Protocol):
    """As threading.Event."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Started(Protocol):
    """A thread that runs, or has ended."""

    def join(self, timeout: float | None = None) -> None: ...


def _start(target: Callable[[], None], name: str) -> Started:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _executor(workers: int, name: str) -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - no plugin needs it, and begins with this

    return ThreadPoolExecutor(workers, name)


@cache
def _random() -> Random:
    from random import Random  # noqa: PLC0415 - as above

    return Random()  # noqa: S311 - it spreads what many do


class _LateRandom:
    """As random.Random, made when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_random(), name)


class Entered(Protocol):
    """What `with` holds."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None: ...


class Lock(Entered, Protocol):
    """As threading.Lock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class Condition(Entered, Protocol):
    """As threading.Condition."""

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool: ...

    def notify_all(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Threads:
    """`start` begins a thread that nobody waits for at the end of the process; `executor` has as many workers
    as said, whose names begin as said; `monotonic` and `wall` give seconds, the latter since 1970; `random`
    spreads what many do."""

    start: Callable[[Callable[[], None], str], Started] = _start
    event: Callable[[], Event] = threading.Event
    executor: Callable[[int, str], Executor] = _executor
    lock: Callable[[], Lock] = threading.Lock
    condition: Callable[[], Condition] = threading.Condition
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(default_factory=lambda: cast("Random", _LateRandom()))


REAL = Threads()
