"""Why a peer is not established, as the operator reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from l3net.notification import Notification

#: What the operator reads of a peer that has ended, or not begun, for a reason of ours.
LEFT: Final = "the node has left (l3net node undrain)"
ECHO_LOST: Final = "BFD down: held down until echo works"
SPEAKER_LOST: Final = "speaker restarting"


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
