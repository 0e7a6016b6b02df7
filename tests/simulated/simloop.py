"""An event loop whose clock is simulated: time passes only when nothing is left to do.

What goes to a thread (`asyncio.to_thread`) is done at once, in the loop. So a run depends on nothing but what
it is given: two runs are the same, and an hour costs what happens in it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import selectors
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
#: A simulation writes the same few addresses millions of times.
for _family in (ipaddress.IPv4Address, ipaddress.IPv6Address):
    _text = lru_cache(maxsize=1 << 16)(_family._string_from_ip_int)  # type: ignore[attr-defined]
    _family._string_from_ip_int = staticmethod(_text)  # type: ignore[attr-defined]


class StuckError(Exception):
    """Nothing is left to do, and no timer will ever bring anything."""


class _Selector(selectors.SelectSelector):
    """Waits for nothing: a wait moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError
        self.now += max(0.0, timeout)
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 1000 s."""

    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now

    def run_in_executor(self, _executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as err:
            done.set_exception(err)
        return done


def simulate(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario under a simulated clock."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(scenario)
