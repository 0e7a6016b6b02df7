"""How old what is known of a collection is, and when to list it anyway."""

from __future__ import annotations

from typing import Final

from l3net.ports import View
from l3net.shell.threads import Threads

#: After a break that was longer than this (seconds) the versions of a store that was put back may have
#: grown past what was heard before: it is listed after so many seconds, drawn from this range, although its
#: watch was resumed.
LONG_BREAK: Final = 10.0
#: Seconds within which a watch that is alive says something: bookmarks come once a minute.
SAYS: Final = 75.0
DOUBT: Final = (300.0, 600.0)
#: Objects that are listed as often as `relist` says; a collection of more is listed as much more seldom, so
#: that a large cluster's lists are no steady load, and this many times more seldom at most.
OFTEN: Final = 5000
SELDOM: Final = 18.0


class Freshness:
    """`relist`: seconds between two lists of up to OFTEN objects although all is well, from this range."""

    def __init__(self, relist: tuple[float, float], threads: Threads) -> None:
        self._threads = threads
        self._relist, self._due = relist, 0.0  # monotonic, as all times here
        self._listed_at = self._bookmark_at = 0.0  # 0.0: never
        self._heard_at = 0.0
        self._broke_at: float | None = None

    @property
    def due(self) -> bool:
        """Whether to list."""
        return self._threads.monotonic() >= self._due

    def listed(self, objects: int) -> None:
        """All of them, which are so many."""
        self._listed_at = self._heard_at = self._threads.monotonic()
        self._broke_at = None
        longer = min(max(1.0, objects / OFTEN), SELDOM)
        self._due = self._listed_at + longer * self._threads.random.uniform(*self._relist)

    def heard(self) -> None:
        """Something of the watch."""
        self._heard_at = self._threads.monotonic()

    def bookmarked(self) -> None:
        self._bookmark_at = self._threads.monotonic()

    def doubted(self) -> None:
        """A list is due."""
        self._due = 0.0

    def broke(self) -> None:
        """The connection. One that fell silent broke then: who is cut off is told of it by a probe of the
        kernel's, when the network is there again or minutes later."""
        if self._broke_at is None:
            now = self._threads.monotonic()
            self._broke_at = self._heard_at if now - self._heard_at > SAYS else now

    def resumed(self) -> None:
        """A watch was, from where the last one ended."""
        broke, self._broke_at = self._broke_at, None
        now = self._heard_at = self._threads.monotonic()
        if broke is not None and now - broke > LONG_BREAK:
            self._due = min(self._due, now + self._threads.random.uniform(*DOUBT))

    def listed_within(self, seconds: float) -> bool:
        return bool(self._listed_at) and self._threads.monotonic() - self._listed_at < seconds

    def view(self) -> View:
        now = self._threads.monotonic()
        return View(
            now - self._listed_at if self._listed_at else None,
            now - self._bookmark_at if self._bookmark_at else None,
        )
