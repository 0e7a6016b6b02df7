"""Sessions that flap are held down for a while (DampPeerOscillations of RFC 4271 section 8.1.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """Of one session. Times are of one monotonic clock, in seconds."""

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
