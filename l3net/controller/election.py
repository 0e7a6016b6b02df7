"""Leader election with a Lease: who may write.

The rules are client-go's (tools/leaderelection): a lease is taken when its holder has not renewed it for its
duration, judged by this process's own monotonic clock from the moment the last change was seen, so that
clocks need not agree. A leader that could not renew for `RENEW_DEADLINE` stops being one before others may
begin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from l3net.errors import ConflictError, L3netError
from l3net.ports import LeaseCell

log = logging.getLogger(__name__)

#: Seconds a lease lasts, a leader tries to renew it before it steps down, and between two attempts.
DURATION: Final = 15
RENEW_DEADLINE: Final = 10.0
RETRY: Final = 2.0


@dataclass(slots=True)
class Election:
    """One candidate. `clock` gives monotonic seconds."""

    cell: LeaseCell
    identity: str
    clock: Callable[[], float]
    holder: str = ""
    _version: str = ""
    _seen_at: float = 0.0
    _renewed_at: float | None = None
    _released: bool = False
    _transitions: int = 0
    _back_at: float = float("-inf")  # when the lease was seen to be of before, last

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return (
            not self._released
            and self._renewed_at is not None
            and self.clock() < self._renewed_at + RENEW_DEADLINE
        )

    def attempt(self) -> bool:
        """Take or renew the lease if that may be done; whether this process leads now. Never raises."""
        asked_at = self.clock()
        try:
            self._attempt(asked_at)
        except ConflictError:
            pass  # somebody was quicker; the next attempt reads who
        except L3netError as err:
            log.warning("lease: %s", err)
        return self.leading

    def _attempt(self, asked_at: float) -> None:
        lease = self.cell.read()
        if lease.transitions < self._transitions or (self._version and not lease.version):
            self._back_at = asked_at
        if lease.version != self._version:
            self._version, self._seen_at = lease.version, asked_at
        if self.holder != lease.holder:
            self.holder = lease.holder
        self._transitions = lease.transitions
        ours, led = lease.holder == self.identity, self.leading
        if not ours:
            self._renewed_at = None
        # Nobody holds one that was deleted, or put back to when it was free: whoever led may do so still.
        if not led and asked_at < self._back_at + DURATION:
            return
        # One that names us and that we do not hold is of a store that was put back: another leads, maybe.
        if not (ours and self.leading) and lease.holder and asked_at < self._seen_at + lease.duration:
            return
        taken = replace(
            lease,
            holder=self.identity,
            duration=DURATION,
            transitions=lease.transitions + (0 if ours or not lease.version else 1),
        )
        if self._released:  # while it was read, by another thread
            return
        written = self.cell.write(taken)
        self._version, self._seen_at = written.version, asked_at
        self.holder, self._transitions = self.identity, written.transitions
        # from before the question: what others count from is later
        self._renewed_at = asked_at

    def release(self) -> None:
        """Let go for good, so that another need not wait. Never raises. An attempt may be under way."""
        led, self._released = self.leading, True
        if not led:
            return
        try:
            lease = self.cell.read()
            if lease.holder == self.identity:
                self.cell.write(replace(lease, holder="", duration=1))
        except L3netError as err:
            log.warning("lease not released, it will run out: %s", err)
