"""Keeps the agent's tasks running: what nobody foresaw is noted, and the task begun anew, later each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from l3net.errors import ConfigError
from l3net.faults import Faults

#: Seconds until what failed is tried again, doubled from the first to the longest.
FIRST: Final = 1.0
LONGEST: Final = 30.0
#: A task that ran this long, in seconds, was well.
WELL: Final = 60.0


async def kept_up(part: str, work: Callable[[], Awaitable[None]], faults: Faults) -> None:
    """`work` until it returns. A ConfigError goes on to the user, who alone can mend it."""
    loop = asyncio.get_running_loop()
    delay = FIRST
    while True:
        began = loop.time()
        try:
            await work()
        except ConfigError:
            raise
        except Exception as err:
            if loop.time() - began > WELL:
                delay = FIRST
            # It is begun anew, and nothing tells when it does all its work again.
            faults.note(part, err, lasting=False)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST)
        else:
            return


class Retry:
    """One more try of what has failed: one at a time, later each time, soon again after a success."""

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self._delay = FIRST
        self._last = 0.0
        self._pending: asyncio.TimerHandle | None = None

    def failed(self) -> None:
        """Try once more. Nothing to do while a try is pending."""
        loop = asyncio.get_running_loop()
        if self._pending is None:
            if loop.time() - self._last > WELL + LONGEST:  # nothing has failed for long
                self._delay = FIRST
            self._last = loop.time()
            self._pending = loop.call_later(self._delay, self._fire)
            self._delay = min(self._delay * 2, LONGEST)

    def succeeded(self) -> None:
        self._delay = FIRST
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _fire(self) -> None:
        self._pending = None
        self._again()
