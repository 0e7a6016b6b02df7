"""The intervals of a session: those configured, those in force until a poll sequence ends (RFC 5880)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: A session that is not up sends at most once a second (section 6.8.3), in microseconds.
SLOW: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """What is configured. Intervals in microseconds; `multiplier` of 1 to 255.

    `echo_tx`: between Echo packets of ours, 0 for none; `echo_rx`: how fast the far side may send its own, 0
    for not at all. Both are for single hop alone (RFC 5883 section 3).
    """

    desired_min_tx: int
    required_min_rx: int
    multiplier: int
    passive: bool = False
    echo_tx: int = 0
    echo_rx: int = 0


class Intervals:
    """`tx` and `rx` are in force, `told_rx` is what our packets say; microseconds. `up`: the session is."""

    __slots__ = ("_again", "polling", "rx", "timing", "told_rx", "tx")

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.tx = max(timing.desired_min_tx, SLOW)
        self.rx = self.told_rx = timing.required_min_rx
        self.polling = self._again = False

    def configure(self, timing: Timing, *, up: bool) -> None:
        """Take over other timers."""
        before, self.timing = self.timing, timing
        if not up:
            self.tx = max(timing.desired_min_tx, SLOW)
        elif before.desired_min_tx != timing.desired_min_tx:
            self.tx = min(self.tx, timing.desired_min_tx)  # slower waits until the far side knows
            self._poll()

    def negotiate(self, *, up: bool, echo_works: bool) -> None:
        """How fast Control packets may come: once a second is enough while echo works (section 6.8.3)."""
        wanted = max(self.timing.required_min_rx, SLOW if echo_works else 0)
        if not up:
            self.told_rx = self.rx = wanted
        elif wanted != self.told_rx:
            self.told_rx = wanted
            self.rx = max(self.rx, wanted)  # faster waits until the far side knows
            self._poll()

    def _poll(self) -> None:
        """Begin a poll sequence; after the one under way, whose end says nothing of what is new (6.5)."""
        self._again = self.polling
        self.polling = True

    def poll_ended(self, *, up: bool) -> None:
        """The far side has answered: it knows."""
        if self._again:
            self._again = False
            return
        self.polling = False
        self.tx = self.timing.desired_min_tx if up else self.tx
        self.rx = self.told_rx

    def changed(self, *, up: bool) -> None:
        """The session came up or went down."""
        desired = self.timing.desired_min_tx
        self._again = False
        if up:  # from one packet a second to what is configured, which a poll sequence announces
            self.tx, self.polling = desired, desired < SLOW
        else:
            self.tx, self.polling = max(desired, SLOW), False

    def resume(self, *, up: bool, polling: bool) -> None:
        """Go on with those of another process."""
        self.polling = polling
        if up:
            self.tx = self.timing.desired_min_tx
