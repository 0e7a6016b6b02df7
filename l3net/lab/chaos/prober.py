"""Probes paths all the while, one process a network namespace. By itself, standard library alone.

    prober.py OUT CONFIGURATION

The configuration is a file, a JSON list of `[number, kind, address, port]`; kinds are those of
l3net.lab.chaos.path. OUT gets a JSON object a line: `{"path", "first", "last", "count", "why"}` for probes
in a row that were not answered, or were and never should be; times are CLOCK_MONOTONIC. SIGTERM ends it, with
`{"totals": {path: [sent, lost]}}`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from types import FrameType

TICK = 0.01
#: Flows of a UDP path, which routers and services may spread.
FLOWS = 4
#: Seconds after which a probe is lost. Longer than this process or an echo waits for a processor.
LOST = 2.0
#: Lost probes of a path that are closer are told as one.
TOGETHER = 0.2
#: Seconds between probes of kinds that are not sent each tick.
EVERY = {"held": 0.1, "connect": 0.1, "forbidden": 0.05}
_HEAD = struct.Struct("!HI")
_ROOM, _FORCE = 4 << 20, 33


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Run:
    """Lost probes in a row."""

    first: float
    last: float
    count: int
    why: str


class Losses:
    """Tells runs of lost probes, once they are over."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._runs: dict[int, Run] = {}
        self.totals: dict[int, list[int]] = {}

    def sent(self, path: int) -> None:
        self.totals.setdefault(path, [0, 0])[0] += 1

    def lost(self, path: int, at: float, why: str = "") -> None:
        self.totals.setdefault(path, [0, 0])[1] += 1
        run = self._runs.get(path)
        if run is not None and at - run.last <= TOGETHER:
            run.first, run.last, run.count = min(run.first, at), max(run.last, at), run.count + 1
            return
        self.tell(path)
        self._runs[path] = Run(at, at, 1, why)

    def tell(self, path: int) -> None:
        if (run := self._runs.pop(path, None)) is not None:
            self.write({"path": path, **asdict(run)})

    def over(self, now: float) -> None:
        """Tell the runs that nothing can be added to."""
        for path in [path for path, run in self._runs.items() if now - run.last > LOST + 2 * TOGETHER]:
            self.tell(path)

    def end(self) -> None:
        for path in list(self._runs):
            self.tell(path)
        self.write({"totals": self.totals})

    def write(self, value: dict[str, object]) -> None:
        os.write(self._out, json.dumps(value).encode() + b"\n")


class Path:
    """One path: `send` at its times, `received` when a socket of it is readable, `expire` what was not
    answered."""

    def __init__(
        self, number: int, address: str, port: int, losses: Losses, ready: selectors.BaseSelector
    ) -> None:
        self.number, self.address, self.port = number, address, port
        self.losses, self.ready = losses, ready
        self.waiting: dict[int, float] = {}
        self.numbers = itertools.count()
        self.start()

    def start(self) -> None:
        raise NotImplementedError

    def send(self, now: float) -> None:
        raise NotImplementedError

    def received(self, it: socket.socket) -> None:
        raise NotImplementedError

    def expire(self, now: float) -> None:
        while self.waiting:
            number = next(iter(self.waiting))
            if now - self.waiting[number] < LOST:
                return
            self.losses.lost(self.number, self.waiting.pop(number))

    def listen(self, it: socket.socket) -> socket.socket:
        it.setblocking(False)
        self.ready.register(it, selectors.EVENT_READ, self)
        return it


class Udp(Path):
    flows: list[socket.socket]

    def start(self) -> None:
        self.flows = []
        for _ in range(FLOWS):
            it = self.listen(socket.socket(family_of(self.address), socket.SOCK_DGRAM))
            it.setsockopt(socket.SOL_SOCKET, _FORCE, _ROOM)
            self.flows.append(it)

    def send(self, now: float) -> None:
        number = next(self.numbers)
        self.waiting[number] = now
        self.losses.sent(self.number)
        text = _HEAD.pack(self.number, number) + b"l3net chaos"
        # Not connected: an ICMP error of one probe is no error of the next.
        with contextlib.suppress(OSError):
            self.flows[number % FLOWS].sendto(text, (self.address, self.port))

    def received(self, it: socket.socket) -> None:
        while True:
            try:
                said = it.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue
            if len(said) >= _HEAD.size:
                self.answered(_HEAD.unpack_from(said)[1])

    def answered(self, number: int) -> None:
        self.waiting.pop(number, None)


class Forbidden(Udp):
    """The other way round: an answer is what must not be."""

    def answered(self, number: int) -> None:
        if (at := self.waiting.pop(number, None)) is not None:
            self.losses.lost(self.number, at, "answered")

    def expire(self, now: float) -> None:
        for number in [number for number, at in self.waiting.items() if now - at >= LOST]:
            del self.waiting[number]


class Icmp(Path):
    """Echo requests by a raw socket."""

    def start(self) -> None:
        six = family_of(self.address) == socket.AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        self.it = self.listen(socket.socket(family_of(self.address), socket.SOCK_RAW, protocol))
        self.it.setsockopt(socket.SOL_SOCKET, _FORCE, _ROOM)
        self.it.connect((self.address, 0))
        self.request, self.reply, self.skip = (128, 129, 0) if six else (8, 0, 20)
        self.identity = (os.getpid() * 64 + self.number) & 0xFFFF

    def send(self, now: float) -> None:
        number = next(self.numbers)
        self.waiting[number & 0xFFFF] = now
        self.losses.sent(self.number)
        text = struct.pack("!BBHHH", self.request, 0, 0, self.identity, number & 0xFFFF)
        if self.skip:  # of ICMPv6 the kernel makes it
            text = text[:2] + struct.pack("!H", checksum(text)) + text[4:]
        with contextlib.suppress(OSError):
            self.it.send(text)

    def received(self, it: socket.socket) -> None:
        while True:
            try:
                said = it.recv(2048)[self.skip :]
            except BlockingIOError:
                return
            except OSError:
                continue
            if len(said) >= 8 and said[0] == self.reply:
                identity, number = struct.unpack_from("!HH", said, 4)
                if identity == self.identity:
                    self.waiting.pop(number, None)


class Held(Path):
    """A TCP connection that says something ten times a second. What ends it is told; being late is not a
    loss."""

    it: socket.socket | None = None

    def start(self) -> None:
        self.again(0.0)

    def again(self, now: float) -> None:
        self.opened = now
        self.up = False
        self.it = self.listen(socket.socket(family_of(self.address), socket.SOCK_STREAM))
        with contextlib.suppress(OSError):
            self.it.connect((self.address, self.port))

    def send(self, now: float) -> None:
        if self.it is None:
            self.again(now)
            return
        try:
            self.it.send(b"l3net")
        except OSError as err:
            if self.up and err.errno != errno.EAGAIN:
                self.broken(now, err)
            elif not self.up and (err.errno not in (errno.EAGAIN, errno.ENOTCONN) or now - self.opened > 3):
                self.close()
            return
        self.losses.sent(self.number)

    def received(self, it: socket.socket) -> None:
        now = time.monotonic()
        try:
            while said := it.recv(4096):
                self.up = self.up or bool(said)
            self.broken(now, None)
        except BlockingIOError:
            return
        except OSError as err:
            self.broken(now, err)

    def broken(self, now: float, err: OSError | None) -> None:
        if self.up:
            self.losses.lost(self.number, now, (err.strerror if err is not None else None) or "closed")
        self.close()

    def close(self) -> None:
        if self.it is not None:
            self.ready.unregister(self.it)
            self.it.close()
            self.it = None


class Connect(Path):
    """A new TCP connection each time. Refused, or not open in `LOST`, it is lost."""

    def start(self) -> None:
        self.open: dict[socket.socket, float] = {}

    def send(self, now: float) -> None:
        it = socket.socket(family_of(self.address), socket.SOCK_STREAM)
        it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        it.setblocking(False)
        self.losses.sent(self.number)
        code = it.connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            self.losses.lost(self.number, now, os.strerror(code))
            it.close()
            return
        self.ready.register(it, selectors.EVENT_WRITE, self)
        self.open[it] = now

    def received(self, it: socket.socket) -> None:
        code = it.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.done(it, os.strerror(code) if code else "")

    def done(self, it: socket.socket, why: str) -> None:
        at = self.open.pop(it)
        if why:
            self.losses.lost(self.number, at, why)
        self.ready.unregister(it)
        it.close()

    def expire(self, now: float) -> None:
        for it in [it for it, at in self.open.items() if now - at >= LOST]:
            self.done(it, "no answer")


def checksum(text: bytes) -> int:
    """RFC 1071."""
    total = sum(number for (number,) in struct.iter_unpack("!H", text))
    total = (total & 0xFFFF) + (total >> 16)
    return int(~(total + (total >> 16)) & 0xFFFF)


KINDS: dict[str, type[Path]] = {
    "udp": Udp,
    "icmp": Icmp,
    "held": Held,
    "connect": Connect,
    "forbidden": Forbidden,
}


@dataclass
class Due:
    """When a path is probed next."""

    at: float
    every: float
    path: Path


def run(dues: list[Due], losses: Losses, ready: selectors.BaseSelector, ended: list[int]) -> None:
    look = stop = 0.0
    while not stop or time.monotonic() < stop:
        now = time.monotonic()
        wait = TICK if stop else max(0.0, min(due.at for due in dues) - now)
        for key, _ in ready.select(wait):
            key.data.received(key.fileobj)
        now = time.monotonic()
        for due in dues if not stop else ():
            if due.at <= now:
                due.path.send(now)
                # What was missed is not made up for.
                due.at = max(due.at + due.every, now)
        if now - look > 0.1:
            look = now
            for due in dues:
                due.path.expire(now)
            losses.over(now)
        if ended and not stop:  # what is under way is waited for
            stop = now + LOST + 0.2


def main(out: str, wanted: list[tuple[int, str, str, int]]) -> None:
    losses = Losses(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    ready = selectors.DefaultSelector()
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, end)
    began = time.monotonic()
    dues = [
        # Spread over a tick, so that they are no burst.
        Due(
            began + index * TICK / len(wanted),
            EVERY.get(kind, TICK),
            KINDS[kind](number, address, port, losses, ready),
        )
        for index, (number, kind, address, port) in enumerate(wanted)
    ]
    losses.write({"started": began})
    run(dues, losses, ready, ended)
    losses.end()


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:  # noqa: PTH123 - Path is a path that is probed
        main(sys.argv[1], json.load(file))
