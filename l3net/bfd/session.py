"""One BFD session in asynchronous mode (RFC 5880 section 6): packets and times in, packets and changes out.

Times are seconds of one monotonic clock, intervals on the wire microseconds. The caller hands in what is
received and calls `expire` at `deadline`; it sends what `take` and `echo.take` return and looks at `changes`.
This side never asks for demand mode; a far side that does is obeyed (section 6.8.7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from l3net.bfd.authentication import Key, Verifier, sign
from l3net.bfd.echo import Echo
from l3net.bfd.intervals import SLOW, Intervals, Timing
from l3net.bfd.packet import Diagnostic, Packet, PacketError, State, decode

SECOND: Final = 1_000_000
#: Seconds that a session stays down whose echo failed, ours or the far side's: at first, and at the most.
#: Control packets may still pass, and have it up at once, only to fail again. The longest is less than the
#: minute within which a BGP session counts as flapping.
FIRST_HOLD: Final = 1.0
LONGEST_HOLD: Final = 30.0
#: Packets that say AdminDown before a session is forgotten.
FAREWELLS: Final = 3

Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Change:
    """The session got from one state to another at `at`. `remote_state` is the far side's last word."""

    before: State
    after: State
    diagnostic: Diagnostic
    remote_state: State
    at: float

    @property
    def failure(self) -> bool:
        """Whether the path is to be given up: it was up, and nobody turned BFD off (RFC 5882 section 3.2)."""
        return (
            self.before is State.UP and self.after is State.DOWN and self.remote_state is not State.ADMIN_DOWN
        )


def _next_hold(last: float, *, lasted: float) -> float:
    """Twice as long as the last time, unless the session lasted; in seconds."""
    return FIRST_HOLD if lasted > LONGEST_HOLD else min(max(FIRST_HOLD, 2 * last), LONGEST_HOLD)


def _silent(remote: Packet | None, *, passive: bool) -> bool:
    """Whether nothing may be sent: passive and nothing heard, or the far side wants none (section 6.8.7)."""
    return passive if remote is None else remote.required_min_rx == 0


class BfdSession:
    """The machine. `discriminator` is unique among sessions and not 0; `random` gives values in [0, 1)."""

    def __init__(
        self, discriminator: int, timing: Timing, now: float, random: Random, key: Key | None = None
    ) -> None:
        self.discriminator = discriminator
        self.state = State.DOWN
        self.since = now
        self.diagnostic = Diagnostic.NONE
        self.remote: Packet | None = None  # the last packet believed; None: nothing is known of the far side
        self.changes: list[Change] = []
        self.finished = False  # said farewell: to be forgotten
        self.echo = Echo(discriminator, random)
        self.echo_lost = False  # until an Echo packet comes back, or the far side is heard no more
        self._hold = 0.0
        self._held_until = now
        self._timing = timing
        self._random = random
        self._key = key
        self._verifier = Verifier(key)
        self._sequence = int(random() * (1 << 32))
        self._last_sent = float("-inf")
        self._heard = now
        self._expected_within = float("inf")  # the detection time when it was heard
        self._intervals = Intervals(timing)
        self._outbox: list[bytes] = []
        self._farewells: int | None = None
        self._next_send: float | None = None
        self._schedule(now - self.transmit_interval)

    # --- what is in force --------------------------------------------------------------------------------

    @property
    def remote_state(self) -> State:
        return self.remote.state if self.remote is not None else State.DOWN

    @property
    def remote_discriminator(self) -> int:
        return self.remote.my_discriminator if self.remote is not None else 0

    @property
    def detection_time(self) -> float:
        """Seconds without a packet after which the session goes down (section 6.8.4)."""
        remote = self.remote
        if remote is None:
            return self._timing.multiplier * SLOW / SECOND
        # When we leave Up the far side, which may be asked for one packet a second, does not know yet.
        slow = SLOW if self.state is State.DOWN else 0
        return remote.detect_multiplier * max(self._intervals.rx, remote.desired_min_tx, slow) / SECOND

    @property
    def deadline(self) -> float | None:
        """When `expire` is due; None: not before something else happens."""
        due = (self._next_send, self._detection_due(), self.echo.deadline)
        times = [when for when in due if when is not None]
        return min(times, default=None)

    @property
    def transmit_interval(self) -> float:
        """Seconds between two packets before jitter (section 6.8.7)."""
        slowest = self.remote.required_min_rx if self.remote is not None else 1
        return max(self._intervals.tx, slowest) / SECOND

    def _detection_due(self) -> float | None:
        if self.remote is None or self._farewells is not None:
            return None
        return self._heard + self.detection_time

    # --- commands ----------------------------------------------------------------------------------------

    def set_timing(self, timing: Timing, now: float) -> None:
        """Take over other timers; the session stays as it is (section 6.8.3)."""
        before, self._timing = self._timing, timing
        self._intervals.configure(timing, up=self.state is State.UP)
        self._follow_echo(now)
        if before.echo_tx and not timing.echo_tx:
            self.echo_lost, self._held_until = False, now
        if before != timing:
            self._schedule(min(self._last_sent, now))

    def _follow_echo(self, now: float) -> None:
        """Send Echo packets while up and as fast as the far side takes them (section 6.8.9)."""
        timing, remote = self._timing, self.remote
        if self.state is not State.UP or remote is None:
            self.echo.pause()
        else:
            theirs = remote.required_min_echo_rx
            both = max(timing.echo_tx, theirs) if timing.echo_tx and theirs else 0
            self.echo.run(both, timing.multiplier, now)
        if self.state is State.UP and not self.echo.works:
            self.echo_lost = False
        self._intervals.negotiate(up=self.state is State.UP, echo_works=self.echo.works)

    def echo_returned(self, payload: bytes, now: float) -> bool:
        """An Echo packet came back; whether it is one of ours that was out."""
        known = self.echo.returned(payload, now)
        if known:
            self.echo_lost = False
            self._intervals.negotiate(up=self.state is State.UP, echo_works=self.echo.works)
            if self._next_send is None:
                self._schedule(self._last_sent)
        return known

    def keep_alive(self, now: float) -> None:
        """Send now what would be due soon, before a moment in which nothing can be sent."""
        if not self.finished and not self._ceases():
            self._send(now)

    def disable(self, now: float) -> None:
        """Go to AdminDown and tell the far side, to which that is no failure (section 6.8.16)."""
        self._farewells = FAREWELLS
        self._change(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN, now)
        self.finished = self._next_send is None

    # --- handing over ------------------------------------------------------------------------------------

    def snapshot(self) -> Mapping[str, Any]:
        """What another process needs to go on with the session; the configuration is apart."""
        remote = self.remote
        return {
            "discriminator": self.discriminator,
            "state": int(self.state),
            "since": self.since,
            "diagnostic": int(self.diagnostic),
            "remote": replace(remote, authentication=None).encode().hex() if remote is not None else None,
            "heard": self._heard,
            "sequence": self._sequence,
            "polling": self._intervals.polling,
            "echo": self.echo.proven,
            "echoLost": self.echo_lost,
        }

    @classmethod
    def resumed(
        cls, snapshot: Mapping[str, Any], timing: Timing, now: float, random: Random, key: Key | None = None
    ) -> BfdSession:
        """Go on with a session. Raises KeyError, TypeError, ValueError or PacketError for a bad snapshot."""
        session = cls(int(snapshot["discriminator"]), timing, now, random, key)
        session.state = State(snapshot["state"])
        session.since = float(snapshot["since"])
        session.diagnostic = Diagnostic(snapshot["diagnostic"])
        if snapshot["remote"] is not None:
            session.remote = decode(bytes.fromhex(snapshot["remote"]))
        session._sequence = int(snapshot["sequence"])
        session._intervals.resume(up=session.state is State.UP, polling=bool(snapshot["polling"]))
        session.echo.proven = bool(snapshot.get("echo"))
        session.echo_lost = bool(snapshot.get("echoLost"))
        session._follow_echo(now)
        # What came meanwhile waits in the socket, and is handed in before any timer.
        session._heard = float(snapshot["heard"])
        session._expected_within = session.detection_time
        session._schedule(now - session.transmit_interval)
        return session

    # --- packets in --------------------------------------------------------------------------------------

    def receive(self, payload: bytes, now: float) -> None:
        """A datagram that belongs to this session (section 6.8.6). Raises PacketError if it is discarded."""
        self.handle(decode(payload), payload, now)

    def handle(self, packet: Packet, payload: bytes, now: float) -> None:
        """As `receive`, of a packet decoded already."""
        if packet.your_discriminator not in (0, self.discriminator):
            raise PacketError("discriminator of no session")
        if now - self._heard > 2 * self._expected_within:
            self._verifier.forget()
        if not self._verifier.accepts(packet, payload):
            raise PacketError("authentication failed")
        if self.state is State.ADMIN_DOWN:
            raise PacketError("session is administratively down")
        before = self.transmit_interval
        self.remote, self._heard = packet, now
        if packet.final and self._intervals.polling:
            self._intervals.poll_ended(up=self.state is State.UP)
        self._expected_within = self.detection_time
        was = self.state
        self._step(packet, now)
        self._follow_echo(now)
        if packet.poll:
            self._send(now, final=True)
        if self._next_send is None or before != self.transmit_interval or was is not self.state:
            self._schedule(self._last_sent)
        if self._ceases():
            self._next_send = None

    def _step(self, packet: Packet, now: float) -> None:
        if packet.state is State.ADMIN_DOWN:
            self.echo_lost = False
        match self.state, packet.state:
            case State.DOWN, remote if remote is State.ADMIN_DOWN or now < self._held_until:
                pass
            case _, State.ADMIN_DOWN:
                self._change(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN, now)
            case State.DOWN, State.DOWN:
                self._change(State.INIT, self.diagnostic, now)
            case (State.DOWN, State.INIT) | (State.INIT, State.INIT | State.UP):
                self._change(State.UP, Diagnostic.NONE, now)
            case State.UP, State.DOWN:
                if packet.diagnostic == Diagnostic.ECHO_FAILED:
                    self._hold_down(now)
                self._change(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN, now)

    def _hold_down(self, now: float) -> None:
        self._hold = _next_hold(self._hold, lasted=now - self.since)
        self._held_until = now + self._hold
        self.echo_lost = True

    def _change(self, after: State, diagnostic: Diagnostic, now: float) -> None:
        before = self.state
        self.state, self.diagnostic = after, diagnostic
        if before is after:
            return
        self.changes.append(Change(before, after, diagnostic, self.remote_state, now))
        self.since = now
        self._intervals.changed(up=after is State.UP)
        self._follow_echo(now)
        if not _silent(self.remote, passive=self._timing.passive):
            self._send(now)  # at once, so that the far side knows (section 6.8.7)
        self._schedule(now)

    # --- time --------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Do what is due at `now`. Hand in first what has been received: late is not lost."""
        due = self._detection_due()
        if due is not None and now >= due:
            self._detect(now)
        elif self.echo.expire(now):
            self._hold_down(now)
            self._change(State.DOWN, Diagnostic.ECHO_FAILED, now)
        if self._next_send is not None and now >= self._next_send:
            self._send(now)
            if self._farewells is not None:
                self._farewells -= 1
            if self._farewells == 0:
                self.finished, self._next_send = True, None
            else:
                self._schedule(now)

    def _detect(self, now: float) -> None:
        """Nothing was heard for the detection time (6.8.4): the far side is unknown again (6.8.1)."""
        if self.state in (State.INIT, State.UP):
            self._change(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED, now)
        self.remote, self.echo_lost = None, False
        self._schedule(self._last_sent)

    def _ceases(self) -> bool:
        """Whether periodic packets stop: none may be sent, or the far side is in demand mode (6.8.7)."""
        remote = self.remote
        if _silent(remote, passive=self._timing.passive):
            return True
        both_up = self.state is State.UP and remote is not None and remote.state is State.UP
        return both_up and remote is not None and remote.demand and not self._intervals.polling

    def _schedule(self, after: float) -> None:
        """The next periodic packet: early by up to a quarter, and by a tenth at least with multiplier 1."""
        if self.finished or self._ceases():
            self._next_send = None
            return
        low, high = (0.75, 0.90) if self._timing.multiplier == 1 else (0.75, 1.0)
        self._next_send = after + self.transmit_interval * (low + self._random() * (high - low))

    # --- packets out -------------------------------------------------------------------------------------

    def _send(self, now: float, *, final: bool = False) -> None:
        timing = self._timing
        desired = timing.desired_min_tx
        packet = Packet(
            state=self.state,
            my_discriminator=self.discriminator,
            your_discriminator=self.remote_discriminator,
            diagnostic=self.diagnostic,
            poll=self._intervals.polling and not final,
            final=final,
            control_plane_independent=True,
            detect_multiplier=timing.multiplier,
            desired_min_tx=desired if self.state is State.UP else max(desired, SLOW),
            required_min_rx=self._intervals.told_rx,
            required_min_echo_rx=timing.echo_rx,
        )
        if self._key is not None:
            # Section 6.7.3 lets the number stand still; it goes up with every packet, as meticulous wants it.
            self._sequence += 1
            self._outbox.append(sign(self._key, packet, self._sequence))
        else:
            self._outbox.append(packet.encode())
        if not final:
            self._last_sent = now

    def take(self) -> list[bytes]:
        """Packets to send, once."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def take_changes(self) -> list[Change]:
        """Changes of state, once."""
        changes, self.changes = self.changes, []
        return changes
