"""BGP between two sides as seen from outside: a TCP connection that is there or not, and words on their way.

A path that is cut holds words back; it is noticed by BFD where both sides run it, else by the hold time.
What a side then does with what it had learned is its own affair.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from l3net.model import Address, Prefix

#: Seconds that a word takes, and that BFD takes to notice.
DELAY = 0.002
BFD_TIME = 0.9
#: Seconds between a path that is there again and the next attempt.
DIALS = 1.0


class End(enum.Enum):
    """How a session ended, as one side sees it."""

    LOST = "lost"  # the other side's process died or its connection was reset: graceful restart applies
    NOTIFIED = "notified"  # a NOTIFICATION
    HOLD = "hold time expired"
    BFD = "BFD down"


@dataclass(frozen=True, slots=True)
class Path:
    """A route as BGP says it. `hop` is the next hop, `stale`: its peer is restarting."""

    hop: Address
    as_path: tuple[int, ...] = ()
    preference: int = 100
    communities: frozenset[str] = frozenset()
    originator: str = ""
    clusters: tuple[str, ...] = ()
    stale: bool = False


class Side(Protocol):
    """One end of a session."""

    @property
    def name(self) -> str: ...

    @property
    def ready(self) -> bool:
        """Whether its process runs and wants the session."""
        ...

    @property
    def bfd(self) -> bool:
        """Whether it watches the path by BFD."""
        ...

    @property
    def bfd_closes(self) -> bool:
        """Whether it closes the session by itself when BFD fails."""
        ...

    def opened(self) -> None: ...

    def closed(self, how: End) -> None: ...

    def hears(self, prefix: Prefix, path: Path | None) -> None: ...

    def hears_end(self, version: int) -> None: ...

    def path_is(self, *, up: bool) -> None:
        """What BFD says, or would."""
        ...


class Session:
    """`passes`: whether packets go both ways now. `hold`: seconds. Each side has its own idea of whether the
    session is up."""

    def __init__(self, name: str, passes: Callable[[], bool], hold: float) -> None:
        self.name = name
        self.passes = passes
        self.hold = hold
        self.sides: tuple[Side, Side]
        self._up: list[Side] = []  # to whom it is up
        self._pipes: tuple[deque[tuple[Any, ...]], deque[tuple[Any, ...]]] = (deque(), deque())
        self._timers: list[asyncio.TimerHandle] = []
        self._dial: asyncio.TimerHandle | None = None
        self._was = True  # whether the path was there
        self.excused = 0.0  # until when it may end
        self.ended: Callable[[Session, str], None] = lambda _session, _why: None

    @property
    def up(self) -> bool:
        """To both sides."""
        return len(self._up) == 2

    def look(self) -> None:
        """The path or a side may have changed."""
        passes = self.passes()
        if passes is not self._was:
            self._was = passes
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            if passes:
                self._tell_bfd(up=True)
            else:
                loop = asyncio.get_running_loop()
                if all(side.bfd for side in self.sides):
                    self._timers.append(loop.call_later(BFD_TIME, self._unheard))
                self._timers.append(loop.call_later(self.hold, self._expires))
        if passes:
            for to in (0, 1):
                self._send(to)
        if passes and not self.up:
            for side in list(self._up):  # its segments are answered with a reset, or a new OPEN comes
                self._closed(side, End.LOST)
            if self._dial is None:
                self._dial = asyncio.get_running_loop().call_later(DIALS, self._try)

    def _try(self) -> None:
        self._dial = None
        if not self._up and self.passes() and all(side.ready for side in self.sides):
            for pipe in self._pipes:
                pipe.clear()
            self._up = list(self.sides)
            for side in self.sides:
                side.opened()

    def _unheard(self) -> None:
        self._tell_bfd(up=False)
        for side in list(self._up):
            if side.bfd_closes:
                self._closed(side, End.BFD)

    def _tell_bfd(self, *, up: bool) -> None:
        for side in self.sides:
            if side.bfd:
                side.path_is(up=up)

    def _expires(self) -> None:
        for side in list(self._up):
            self._closed(side, End.HOLD)

    def _closed(self, side: Side, how: End) -> None:
        if side in self._up:
            self._up.remove(side)
            self.ended(self, how.value)
            side.closed(how)

    def close(self, how: End, by: Side) -> None:
        """`by` ends it. What it said last still goes over a path that is there; else nobody hears of it."""
        if by not in self._up:
            return
        other = 1 - self.sides.index(by)
        self.ended(self, f"{how.value} by {by.name}")
        if self.passes():
            self._send(other)
            self._up.remove(by)
            self._closed(self.sides[other], how)
        else:
            self._up.remove(by)
        self.look()

    def forget(self, side: Side) -> None:
        """The machine of `side` is off."""
        if side in self._up:
            self._up.remove(side)

    # --- words -------------------------------------------------------------------------------------------

    def says(self, side: Side, prefix: Prefix, path: Path | None) -> None:
        """`side` announces or withdraws."""
        self._put(side, (prefix, path))

    def ends(self, side: Side, version: int) -> None:
        """`side` says End-of-RIB."""
        self._put(side, (version,))

    def _put(self, side: Side, word: tuple[Any, ...]) -> None:
        to = 1 - self.sides.index(side)
        self._pipes[to].append(word)
        if len(self._pipes[to]) == 1:
            asyncio.get_running_loop().call_later(DELAY, self._send, to)

    def _send(self, to: int) -> None:
        pipe = self._pipes[to]
        while pipe and self.up and self.passes():
            word = pipe.popleft()
            if len(word) == 1:
                self.sides[to].hears_end(word[0])
            else:
                self.sides[to].hears(*word)
