"""The packets that policies dropped and that are to be told of: the last of them, and a line each in the
log."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final

from l3net.model import Policy
from l3net.policy.book import PolicyBook
from l3net.policy.dropped import Drop, dropped
from l3net.policy.mixing import PolicyKey
from l3net.ports import LoggedPacket, PacketLog

log = logging.getLogger("l3net.policy.drops")

#: How many are kept.
KEPT: Final = 1000
#: Lines of the agent's log in a second; `l3net policy drops` has the others.
LINES: Final = 10


class Drops:
    """`declared` policies, then `follow`: the kernel's log is read as long as any of them logs."""

    def __init__(self, packets: PacketLog, book: PolicyBook) -> None:
        self._packets = packets
        self._book = book
        self._now = asyncio.get_running_loop().time
        self._logging: set[PolicyKey] = set()
        self._last: deque[tuple[int, Drop]] = deque(maxlen=KEPT)
        self._second, self._lines, self._untold = 0.0, 0, 0
        self.seen = 0

    def declared(self, key: PolicyKey, policy: Policy | None) -> None:
        """A policy as it is now."""
        (self._logging.add if policy is not None and policy.log_drops else self._logging.discard)(key)

    def follow(self) -> None:
        """Open the kernel's log if it is needed and not open, close it if it is not needed."""
        if not self._logging:
            self._packets.stop()
            return
        before = self._packets.problem
        self._packets.start(self._heard)
        if self._packets.problem and self._packets.problem != before:
            log.warning("%s", self._packets.problem)

    def stop(self) -> None:
        self._packets.stop()

    @property
    def logging(self) -> int:
        """How many policies log."""
        return len(self._logging)

    @property
    def problem(self) -> str:
        """Why nothing is heard, though it should."""
        return self._packets.problem

    def _heard(self, logged: LoggedPacket) -> None:
        found = dropped(self._book, logged.when, logged.prefix, logged.packet)
        if found is None:
            return
        self.seen += 1
        self._last.append((self.seen, found))
        now = self._now()
        if now - self._second >= 1.0:
            if self._untold:
                log.info("%d more packets dropped by policies", self._untold)
            self._second, self._lines, self._untold = now, LINES, 0
        if self._lines:
            self._lines -= 1
            log.info("dropped: %s", found)
        else:
            self._untold += 1

    def rows(self, after: int = 0, most: int = KEPT) -> list[dict[str, Any]]:
        """The last ones, the oldest first; `after`: only those with a greater serial number."""
        found = [{"serial": serial, **drop.row()} for serial, drop in self._last if serial > after]
        return found[-most:]
