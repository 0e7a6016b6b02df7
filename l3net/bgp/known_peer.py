"""What is known of one peer, and what follows from it; `l3net.bgp.peering` has its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from l3net.bgp.damping import Damping
from l3net.bgp.events import Opened
from l3net.bgp.peer_reasons import Attempt, Notice, Reset, Shown
from l3net.bgp.peer_states import OWNERS, State, Timer
from l3net.bgp.sessions import Session
from l3net.model import Family
from l3net.notification import BFD_DOWN, Notification

#: FRR 8.4 may send End-of-RIB about a second before its routes (coalesce-time): sweep later than that.
SWEEP_DELAY: Final = 5.0
ALL: Final = frozenset(Family)
NONE: Final[frozenset[Family]] = frozenset()


@dataclass(slots=True)
class KnownPeer:
    """Times are of one monotonic clock, in seconds. `families` are those its session carries.

    `deadline` is when the machine's `tick` has something to do.
    """

    session: Session
    since: float = 0.0  # of the last change between established and not
    reason: str = ""  # why it is not established
    state: State = State.IDLE
    opened: Opened | None = None
    passed: Opened | None = None  # known when the speaker was lost: not the OPEN of a session after that
    awaiting: set[Family] = field(default_factory=set)  # the peer has not said all it has of these
    refreshing: set[Family] = field(default_factory=set)  # between BoRR and EoRR (RFC 7313)
    unanswered: set[Family] = field(default_factory=set)  # a ROUTE-REFRESH of ours brought nothing
    over_limit: set[Family] = field(default_factory=set)  # has announced more than max_prefixes
    flaps: int = 0
    damping: Damping = field(default_factory=Damping)
    last_reset: Reset | None = None
    last_attempt: Attempt | None = None
    last_update: float = 0.0
    last_sent: Notice | None = None  # NOTIFICATIONs
    last_received: Notice | None = None
    parted: bool = False  # no session is held, whatever is wanted
    echo_lost: bool = False  # BFD's echo has failed: a session would prove nothing
    path_failed: bool = False  # BFD has lost the peer, and no session has come up since
    resetting: bool = False  # it is we who close the session or open it anew: the peer has not restarted
    notified: Notification | None = None  # that ended, or ends, this session
    told: str = ""  # by the peer's operator with it (RFC 9003)
    unagreed: bool = False  # has announced a family that it has not offered
    unseen: bool = False  # has announced something while we did not know that its session was up
    found_up: bool = False  # its session was, and the peer has not said all again
    replaying: bool = False  # the speaker is telling what the peer has said
    heard: set[Family] = field(default_factory=set)  # End-of-RIB, as far as the speaker tells
    asked: float = 0.0  # for a ROUTE-REFRESH
    shown_attempt: Shown = field(default_factory=Shown)
    shown_notification: Shown = field(default_factory=Shown)
    timers: dict[tuple[Timer, Family | None], float] = field(default_factory=dict)
    close_with: int = BFD_DOWN

    @property
    def established(self) -> bool:
        return self.state in (State.SYNCING, State.SYNCED)

    @property
    def closing(self) -> bool:
        return self.state is State.CLOSING

    @property
    def families(self) -> frozenset[Family]:
        return frozenset(self.session.families)

    @property
    def deadline(self) -> float | None:
        return min(self.timers.values(), default=None)

    def held(self, now: float) -> bool:
        """Whether it is held down: it flaps, or BFD's echo has failed."""
        return self.echo_lost or self.damping.held(now)

    @property
    def takes_its_next_hops(self) -> bool:
        """Whether the peer has offered what we need of it to announce IPv4 prefixes (RFC 8950 section 4)."""
        offered = self.opened.extended_next_hops if self.opened is not None else None
        return not self.session.extended_next_hop or offered is not False

    @property
    def negotiated(self) -> frozenset[Family]:
        """The families that both sides speak (RFC 4760 section 8); without an OPEN, those configured."""
        offered = self.opened.families if self.opened is not None else None
        return self.families if offered is None else self.families & offered

    @property
    def restart_time(self) -> int:
        """How long the peer asks to be waited for, in seconds (RFC 4724 section 3)."""
        return self.opened.graceful_restart or 0 if self.opened is not None else 0

    @property
    def kept(self) -> frozenset[Family]:
        """The families whose paths stay if the session ends now (RFC 4724 section 4.2)."""
        opened = self.opened
        if not self.session.graceful_restart or self.notified is not None or opened is None:
            return NONE
        if opened.graceful_restart is None:
            return NONE
        if self.resetting:  # we are the restarting speaker (section 4.1), and the peer forwards on
            return self.families
        return self.families & opened.preserved if opened.graceful_restart else NONE

    def time_to_say_all(self) -> float:
        """How long a peer that is back has, in seconds, where it does not say End-of-RIB."""
        return max(float(self.restart_time), SWEEP_DELAY + 1)

    def not_preserved(self) -> frozenset[Family]:
        """Families of which a peer that is back has not kept the forwarding state (RFC 4724 section 4.2).

        None where it is we who ended the session: then the bits mean nothing.
        """
        if self.state is not State.RESTARTING or self.resetting or self.opened is None:
            return NONE
        return ALL - self.opened.forwarding

    # --- what is noted ---------------------------------------------------------------------------------

    def show(self, now: float, failure: str) -> None:
        """Why there is no session: what the last attempt ended with hides nothing of how the session did."""
        if not (self.closing or self.held(now) or self.parted):
            self.reason = f"{failure}; last session: {self.last_reset}" if self.last_reset else failure

    def note(self, now: float, notification: Notification, text: str) -> None:
        """A NOTIFICATION came or went."""
        if notification.received:  # one of ours may have gone to a second connection, which was refused
            self.notified = notification
            self.last_received = Notice(now, notification, text)
        else:
            self.last_sent = Notice(now, notification, text)

    def updated(self, now: float) -> None:
        """An UPDATE came."""
        self.last_update = now
        if not self.established:
            self.unseen = True

    def enter(self, state: State) -> None:
        """Change to a state; timers that it does not own end."""
        self.state = state
        self.timers = {key: when for key, when in self.timers.items() if state in OWNERS[key[0]]}
        if not self.established:
            self.awaiting.clear()
