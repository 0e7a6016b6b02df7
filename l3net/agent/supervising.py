"""Keeps the agent's tasks running: what nobody foresaw is noted, and the task begun anew, later each time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.faults import Faults
from l3net.retry import Backoff

log = logging.getLogger("l3net.agent")

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


def unforeseen(faults: Faults) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Of timers, readers and tasks that nobody waits for: they concern one event, and the loop goes on."""

    def heard(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            faults.note("event loop", error, lasting=False)
        elif error is None:
            log.warning("event loop: %s", context.get("message"))

    return heard


class Retry:
    """Has what failed tried again: each part by itself, later each time, and all that are due at once.

    `again` is called with the parts that are due. A part is a name for people.
    """

    def __init__(self, again: Callable[[Sequence[str]], None]) -> None:
        self._again = again
        self._backoff = Backoff[str](FIRST, LONGEST)
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, part: str) -> None:
        """Try it once more. Nothing to do while that is to come."""
        now = asyncio.get_running_loop().time()
        if not self._backoff.waits(part, now):
            self._backoff.failed(part, now)
            self._arm()

    def succeeded(self, part: str) -> None:
        """It has, or nobody wants it any more."""
        if part in self._backoff:
            self._backoff.forget(part)
            self._arm()

    def __contains__(self, part: str) -> bool:
        """Whether it has failed, and not succeeded since."""
        return part in self._backoff

    def these(self, failed: Collection[str], *, of: Iterable[str]) -> None:
        """Of some parts, these have failed, and the others have not."""
        for part in of:
            (self.failed if part in failed else self.succeeded)(part)

    def only(self, prefix: str, parts: Collection[str]) -> None:
        """Of the parts whose names begin so there are these and no others."""
        for part in [each for each in self._backoff if each.startswith(prefix) and each not in parts]:
            self.succeeded(part)

    def _arm(self) -> None:
        """One timer, for the first that is due."""
        if self._timer is not None:
            self._timer.cancel()
        due = self._backoff.next_due()
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        due = self._backoff.due(now)
        for part in due:  # until it has succeeded
            self._backoff.failed(part, now)
        self._arm()
        if due:  # a timer may be a little early
            self._again(due)
