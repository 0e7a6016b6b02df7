"""The Echo function of one session (RFC 5880 section 6.8.9): what is sent, what came back, when it failed.

Echo packets go to the far side's forwarding plane, which sends them back. What is in them is the sender's own
affair (section 5): here the session's discriminator, a number, and a random token that is new in every packet
and counts once, so that nobody who has not seen a packet can answer it, and no answer can be repeated.

Echo counts from the first packet that comes back. A far side that says it takes Echo packets (each FRR does)
and does not forward them, because its forwarding is off or filtered, would otherwise never keep a session up.
Once one has come back, those that do not are a failure, also when the session comes up again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: A version, the length, "l3", the discriminator, the number, the token. FRR's BFD, where it gives back what
#: comes over IPv6, wants 24 bytes at the least and the length in the second.
_PAYLOAD: Final = struct.Struct("!4sII12s")
_MAGIC: Final = bytes((1, _PAYLOAD.size)) + b"l3"
_SECOND: Final = 1_000_000
#: Random bits taken out of a float in [0, 1), which has 53.
_RANDOM_BITS: Final = 48
#: Packets without an answer that are remembered.
_REMEMBERED: Final = 512


@dataclass(frozen=True, slots=True)
class _Flight:
    number: int
    token: bytes
    sent: float


def discriminator_of(payload: bytes) -> int | None:
    """The session an Echo packet says to be of; None for one that is not of our making."""
    if len(payload) != _PAYLOAD.size:
        return None
    magic, discriminator, _number, _token = _PAYLOAD.unpack(payload)
    return int(discriminator) if magic == _MAGIC else None


class Echo:
    """Times are seconds, intervals microseconds. `expire` is to be called at `deadline`."""

    def __init__(self, discriminator: int, random: Callable[[], float]) -> None:
        self.interval = 0  # in force; 0 while nothing is sent
        self.proven = False  # one has come back
        self._discriminator = discriminator
        self._random = random
        self._multiplier = 3
        self._number = 0
        self._answered = 0.0
        self._next_send: float | None = None
        self._flights: deque[_Flight] = deque(maxlen=_REMEMBERED)
        self._outbox: list[bytes] = []

    @property
    def works(self) -> bool:
        """Whether packets are sent and come back, so that their loss is a failure."""
        return self.proven and self.interval > 0

    @property
    def detection_time(self) -> float:
        """Seconds without an answer after which the path is given up."""
        return self._multiplier * self.interval / _SECOND

    @property
    def deadline(self) -> float | None:
        times = [when for when in (self._next_send, self._failure_due()) if when is not None]
        return min(times, default=None)

    def run(self, interval: int, multiplier: int, now: float) -> None:
        """Send at this interval from now on; with 0 send nothing, and forget that it ever worked."""
        if interval == 0:
            self.pause()
            self.proven = False
            return
        self._multiplier = multiplier
        if interval == self.interval:
            return
        self.interval = interval
        self._flights.clear()
        self._answered = now
        self._next_send = now

    def pause(self) -> None:
        """The session is not up: nothing is sent (section 6.8.9)."""
        self.interval, self._next_send = 0, None
        self._flights.clear()
        self._outbox.clear()

    def returned(self, payload: bytes, now: float) -> bool:
        """A packet that came in; whether it is one of ours that is out. Those before it are not missed."""
        if discriminator_of(payload) != self._discriminator:
            return False
        _magic, _discriminator, number, token = _PAYLOAD.unpack(payload)
        flight = next((flight for flight in self._flights if flight.number == number), None)
        # Compared without care for time, since a token is good for one packet and a moment.
        if flight is None or flight.token != token:
            return False
        while self._flights and self._flights[0].number <= number:
            self._flights.popleft()
        self._answered = max(self._answered, now)
        self.proven = True
        return True

    def expire(self, now: float) -> bool:
        """Do what is due at `now`; whether the path has failed. Hand in first what has come back."""
        due = self._failure_due()
        if due is not None and now >= due:
            return True
        if self._next_send is not None and now >= self._next_send:
            self._send(now)
        return False

    def _failure_due(self) -> float | None:
        """As many packets as the multiplier says have no answer, and their time is over.

        The last of them gets a quarter of an interval at the least: a process that was held up sends several
        in short order, after a time in which none could come back.
        """
        if not self.works or len(self._flights) < self._multiplier:
            return None
        last = self._flights[self._multiplier - 1]
        return max(self._answered + self.detection_time, last.sent + self.interval / 4 / _SECOND)

    def _send(self, now: float) -> None:
        self._number = (self._number + 1) % (1 << 32)
        token = b"".join(int(self._random() * (1 << _RANDOM_BITS)).to_bytes(6, "big") for _ in range(2))
        self._flights.append(_Flight(self._number, token, now))
        self._outbox.append(_PAYLOAD.pack(_MAGIC, self._discriminator, self._number, token))
        self._next_send = now + self.interval / _SECOND * (0.75 + 0.25 * self._random())

    def take(self) -> list[bytes]:
        """Payloads to send, once."""
        outbox, self._outbox = self._outbox, []
        return outbox
