"""What the next pass has to look at, and when it begins."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from typing import Final

from l3net.model import Prefix

#: Seconds after a pass in which changes are gathered for the next one.
QUIET: Final = 0.02
#: What is configured comes in several objects that belong together: a pass waits this long after the last of
#: them, and no longer than LONGEST_QUIET. Longer than a datastore gathers what changes (0.02 s).
STATE_QUIET: Final = 0.03
LONGEST_QUIET: Final = 0.5


class Dirty(enum.Flag):
    """What a pass has to look at."""

    NOTHING = 0
    STATE = enum.auto()  # anything declared but services and their slices, which are noted one by one
    SAID = enum.auto()  # whether ExaBGP took all it was told
    UNDERLAY = enum.auto()
    ROUTES = enum.auto()  # read all of ours back
    BRIDGE = enum.auto()
    FIREWALL = enum.auto()  # look whether it is intact
    ALL = STATE | SAID | UNDERLAY | ROUTES | BRIDGE | FIREWALL
    #: All that may be different without our having heard of it; what is declared may not.
    DRIFT = SAID | UNDERLAY | ROUTES | BRIDGE | FIREWALL


#: What to look at again for each part of the kernel that has failed.
PARTS: Final = {
    "underlay": Dirty.UNDERLAY,
    "read routes": Dirty.ROUTES,
    "bridge": Dirty.BRIDGE,
    "firewall": Dirty.FIREWALL,
    "connections": Dirty.FIREWALL,
    "envelope": Dirty.FIREWALL,
    "floating connections": Dirty.FIREWALL,
    "egress ways": Dirty.FIREWALL,
    "egress connections": Dirty.FIREWALL,
}


def of_parts(failed: Iterable[str]) -> Dirty:
    """What to look at again after these have failed; for what is no part of the kernel, everything."""
    found = Dirty.NOTHING
    for part in failed:
        found |= PARTS.get(part, Dirty.ALL)
    return found


class Marks:
    """Gathered for the next pass: what is dirty, and the prefixes whose best paths may have changed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._last_pass = self._state_changed = 0.0
        self.dirty = Dirty.ALL
        self.touched: set[Prefix] = set()

    def mark(self, dirty: Dirty) -> None:
        """Have the next pass look at these."""
        self.dirty |= dirty
        if Dirty.STATE in dirty:
            self._state_changed = self._loop.time()
        self._awake.set()

    def look_again(self) -> None:
        """At the sessions, and with them at all that is declared."""
        self.mark(Dirty.STATE)

    def touch(self, prefixes: set[Prefix]) -> None:
        """Paths to these have come or gone."""
        self.touched |= prefixes
        self._awake.set()

    def wake(self) -> None:
        """There is something to do that nobody has to be told of here."""
        self._awake.set()

    async def gathered(self) -> None:
        """Until there is something to do. What comes alone is served at once; what comes in a burst waits for
        the rest of it."""
        await self._awake.wait()
        now = self._loop.time
        limit = now() + LONGEST_QUIET
        while True:
            due = self._last_pass + QUIET
            if Dirty.STATE in self.dirty:
                due = max(due, min(limit, self._state_changed + STATE_QUIET))
            if due <= now():
                break
            await asyncio.sleep(due - now())
        self._awake.clear()

    def take(self) -> tuple[Dirty, set[Prefix]]:
        """All of it, for a pass that begins."""
        found = self.dirty, self.touched
        self.dirty, self.touched = Dirty.NOTHING, set()
        return found

    def passed(self) -> float:
        """A pass has ended; when."""
        self._last_pass = self._loop.time()
        return self._last_pass
