"""What is known of each session: its state, and what the peer said of graceful restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from l3net.bgp.messages import Opened
from l3net.bgp.sessions import Session
from l3net.model import Family


@dataclass(slots=True)
class PeerState:
    """One session as the agent sees it. Times are of the event loop's monotonic clock, in seconds."""

    session: Session
    established: bool = False
    since: float = 0.0  # of the last change of `established`
    reason: str = ""  # why it is not established
    opened: Opened | None = None
    notified: bool = False  # a NOTIFICATION ended the session: its routes are not kept (RFC 4724 section 4)
    awaiting: set[Family] = field(default_factory=set)  # End-of-RIB or refresh not heard yet
    over_limit: set[Family] = field(default_factory=set)  # has announced more than max_prefixes
    last_update: float = 0.0
    flaps: int = 0
    epoch: int = 0  # counts changes of state, so that a timer of an older one does nothing

    @property
    def keeps_routes(self) -> bool:
        """Whether the peer's routes stay while it restarts (RFC 4724 section 4.2)."""
        return (
            self.session.graceful_restart > 0
            and not self.notified
            and self.opened is not None
            and bool(self.opened.graceful_restart)
        )

    @property
    def restart_time(self) -> int:
        """How long to keep them, in seconds."""
        return self.opened.graceful_restart or 0 if self.opened is not None else 0
