"""What is known of each session: its state, and what the peer said of graceful restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from l3net.bgp.messages import Opened
from l3net.bgp.sessions import Session
from l3net.model import Family

#: Flaps within FLAP_WINDOW seconds after which a session is held down, first for FIRST_HOLD seconds.
FLAPS = 5
FLAP_WINDOW = 60.0
#: Flaps within it after which a session is told its routes only when it has held for a moment.
SHAKY_FLAPS = 2
FIRST_HOLD = 10.0
LONGEST_HOLD = 300.0
#: A session that held this long, in seconds, has a clean slate.
FORGIVEN_AFTER = 600.0


@dataclass(slots=True)
class Damping:
    """DampPeerOscillations of RFC 4271 section 8.1.1: a session that flaps is left down, longer each time."""

    flaps: list[float] = field(default_factory=list)
    holds: int = 0
    until: float = 0.0

    def flapped(self, now: float, *, lasted: float) -> float:
        """A session that had been up `lasted` seconds went down; the seconds to hold it down, 0 for none."""
        if self.held(now):
            return 0.0  # ExaBGP has not been told yet
        if lasted >= FORGIVEN_AFTER:
            self.flaps.clear()
            self.holds = 0
        self.flaps = [when for when in self.flaps if now - when < FLAP_WINDOW] + [now]
        if len(self.flaps) < FLAPS and not (self.holds and lasted < FLAP_WINDOW):
            return 0.0
        hold = min(LONGEST_HOLD, FIRST_HOLD * float(1 << self.holds))
        self.holds += 1
        self.flaps.clear()
        self.until = now + hold
        return hold

    def shaky(self, now: float) -> bool:
        """Whether the session is on its way to be held down."""
        return sum(now - when < FLAP_WINDOW for when in self.flaps) >= SHAKY_FLAPS or self.holds > 0

    def held(self, now: float) -> bool:
        return now < self.until


@dataclass(slots=True)
class PeerState:
    """One session as the agent sees it. Times are of the event loop's monotonic clock, in seconds."""

    session: Session
    established: bool = False
    since: float = 0.0  # of the last change of `established`
    reason: str = ""  # why it is not established
    opened: Opened | None = None
    notified: bool = False  # a NOTIFICATION ended the session: its routes are not kept (RFC 4724 section 4)
    told: str = ""  # by the peer's operator, with the NOTIFICATION that ended the session (RFC 9003)
    awaiting: set[Family] = field(default_factory=set)  # End-of-RIB or refresh not heard yet
    demarcated: set[Family] = field(default_factory=set)  # a refresh has begun, and its end will be said
    over_limit: set[Family] = field(default_factory=set)  # has announced more than max_prefixes
    last_update: float = 0.0
    flaps: int = 0
    restarting: bool = False  # gone with a promise to come back: its routes are kept (RFC 4724)
    found_up: bool = False  # established before we came: stale is what it has not been asked for again yet
    resetting: bool = False  # ExaBGP has been told to close it or open it anew: the peer has not restarted
    unseen: bool = False  # has announced something while we did not know that its session was up
    closing: bool = False  # being torn down by us, which ExaBGP has not confirmed yet
    damping: Damping = field(default_factory=Damping)
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
    def takes_its_next_hops(self) -> bool:
        """Whether the peer has offered what we need of it to announce IPv4 prefixes (RFC 8950 section 4)."""
        offered = self.opened.extended_next_hops if self.opened is not None else None
        return not self.session.extended_next_hop or offered is not False

    @property
    def families_lost(self) -> frozenset[Family]:
        """Families of which a peer that is back from a restart has not kept the forwarding state.

        Their stale paths go at once (RFC 4724 section 4.2). Empty where it is we who ended the session, by a
        restart of our speaker or a change of its configuration: then the bits mean nothing.
        """
        if not self.restarting or self.resetting or self.opened is None:
            return frozenset()
        return frozenset(Family) - self.opened.forwarding

    @property
    def restart_time(self) -> int:
        """How long to keep them, in seconds."""
        return self.opened.graceful_restart or 0 if self.opened is not None else 0
