"""Two sessions joined by a wire in a world of simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from l3net.bfd.authentication import Key
from l3net.bfd.intervals import Timing
from l3net.bfd.packet import Packet, PacketError, State, decode
from l3net.bfd.session import BfdSession, Change

Wire = Callable[[str, bytes, float], bool]
Loop = Callable[[str, bytes, float], bytes | None]


@dataclass
class Pair:
    """`a` and `b`; `passes(from, payload, now)` says whether a packet arrives. Delay in seconds.

    `loops(from, payload, now)` is what comes back of an Echo packet, None for nothing.
    """

    a: BfdSession
    b: BfdSession
    passes: Wire = lambda _source, _payload, _now: True
    loops: Loop = lambda _source, payload, _now: payload
    delay: float = 0.001
    now: float = 0.0
    sent: list[tuple[float, str, Packet]] = field(default_factory=list)
    echoes: list[tuple[float, str, bytes]] = field(default_factory=list)
    changes: list[tuple[str, Change]] = field(default_factory=list)
    discarded: int = 0
    _air: list[tuple[float, str, bytes]] = field(default_factory=list)

    def run(self, until: float) -> None:
        while True:
            self._collect()
            times = [when for when, _, _ in self._air]
            times += [end.deadline for end in (self.a, self.b) if end.deadline is not None]
            if not times or min(times) > until:
                break
            self.now = max(self.now, min(times))
            due = [flight for flight in self._air if flight[0] <= self.now]
            self._air = [flight for flight in self._air if flight[0] > self.now]
            for _, target, payload in due:
                if target.endswith(" echo"):
                    (self.a if target == "a echo" else self.b).echo_returned(payload, self.now)
                    continue
                try:
                    (self.a if target == "a" else self.b).receive(payload, self.now)
                except PacketError:
                    self.discarded += 1
            for end in (self.a, self.b):
                end.expire(self.now)
        self.now = until

    def _collect(self) -> None:
        for name, end, other in (("a", self.a, "b"), ("b", self.b, "a")):
            for payload in end.take():
                self.sent.append((self.now, name, decode(payload)))
                if self.passes(name, payload, self.now):
                    self._air.append((self.now + self.delay, other, payload))
            for payload in end.echo.take():
                self.echoes.append((self.now, name, payload))
                back = self.loops(name, payload, self.now)
                if back is not None:
                    self._air.append((self.now + 2 * self.delay, f"{name} echo", back))
            self.changes += [(name, change) for change in end.take_changes()]

    @property
    def up(self) -> bool:
        return self.a.state is self.b.state is State.UP


def timing(
    interval: int = 100, multiplier: int = 3, *, passive: bool = False, echo: int = 0, takes: int = 0
) -> Timing:
    """Intervals in milliseconds; `echo` between Echo packets, `takes` the least the far side may have."""
    return Timing(interval * 1000, interval * 1000, multiplier, passive, echo * 1000, takes * 1000)


def pair(
    a: Timing | None = None,
    b: Timing | None = None,
    *,
    seed: int = 1,
    key_a: Key | None = None,
    key_b: Key | None = None,
) -> Pair:
    source = random.Random(seed)
    return Pair(
        BfdSession(0x11, a or timing(), 0.0, source.random, key_a),
        BfdSession(0x22, b or timing(), 0.0, source.random, key_b),
    )
