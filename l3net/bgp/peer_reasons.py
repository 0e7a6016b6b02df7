"""Why a peer is not established, as the operator reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from l3net.notification import Notification

#: What the operator reads of a peer that has ended, or not begun, for a reason of ours.
LEFT: Final = "the node has left (l3net node undrain)"
ECHO_LOST: Final = "BFD down: held down until echo works"
SPEAKER_LOST: Final = "speaker restarting"
#: The same failure is told again after this many seconds.
TELL_AGAIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Reset:
    """How the last session ended. `at` in seconds of the machine's clock; `text` is the peer's (RFC 9003)."""

    at: float
    reason: str
    notification: Notification | None = None
    text: str = ""

    def __str__(self) -> str:
        if self.notification is None:
            return self.reason
        side = "received" if self.notification.received else "sent"
        said = f': "{self.text}"' if self.text else ""
        return f"NOTIFICATION {side}: {self.notification}{said}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that ended before the session was up; `outgoing`: we dialled."""

    at: float
    outgoing: bool
    error: str

    def __str__(self) -> str:
        return self.error if self.outgoing else f"the peer dialled in: {self.error}"


@dataclass(frozen=True, slots=True)
class Notice:
    """A NOTIFICATION that was sent or received, and when; `text` is an operator's (RFC 9003)."""

    at: float
    notification: Notification
    text: str = ""


@dataclass(slots=True)
class Shown:
    """A line that is in the log, and when it came there: what repeats itself is told now and then."""

    text: str = ""
    at: float = 0.0

    def news(self, now: float, text: str) -> bool:
        """Whether the line is to be written; if so, it has been."""
        if text == self.text and now - self.at < TELL_AGAIN:
            return False
        self.text, self.at = text, now
        return True

    def forget(self) -> None:
        self.text = ""
