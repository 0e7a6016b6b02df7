"""Probes paths all the while, one process a network namespace. By itself, standard library alone.

    prober.py OUT CONFIGURATION EVERY

The configuration is a file, a JSON list of `[number, kind, address, port]`; kinds are those of
l3net.lab.chaos.path. EVERY is the seconds between probes of a path. OUT gets a JSON object a line:
`{"path", "first", "last", "count", "why"}` for probes in a row that were not answered, or were and never
should be; times are CLOCK_MONOTONIC. SIGTERM ends it, with `{"totals": [sent, lost]}`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import FrameType

#: Flows of a UDP path, which routers and services may spread.
FLOWS = 4
#: Seconds between looks for answers, which wait in their sockets until then: a wake-up for each of them would
#: cost more than the probe.
LOOK = 0.05
#: Seconds after which a probe is lost. Longer than this process or an echo waits for a processor.
LOST = 2.0
#: Lost probes of a path that are closer are told as one.
TOGETHER = 0.2
#: Seconds between probes of kinds that are sent less often.
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
        self.total = 0

    def lost(self, path: int, at: float, why: str = "") -> None:
        self.total += 1
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

    def end(self, sent: int) -> None:
        for path in list(self._runs):
            self.tell(path)
        self.write({"totals": [sent, self.total]})

    def write(self, value: dict[str, object]) -> None:
        os.write(self._out, json.dumps(value).encode() + b"\n")


class Sockets:
    """What the paths of a prober share: a socket for each flow of a family, for UDP, one for ICMP, and who is
    to hear of the answers there."""

    def __init__(self) -> None:
        self.ready = selectors.DefaultSelector()
        self.udp: dict[int, Udp] = {}
        self.icmp: list[Icmp] = []
        self._flows: dict[socket.AddressFamily, list[socket.socket]] = {}

    def flows(self, path: Udp) -> list[socket.socket]:
        self.udp[path.number] = path
        family = family_of(path.address)
        if family not in self._flows:
            self._flows[family] = [roomy(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(FLOWS)]
        return self._flows[family]

    def look(self) -> None:
        """Everything that has been answered since the last time."""
        head = _HEAD.unpack_from
        for flows in self._flows.values():
            for it in flows:
                for said in waiting(it):
                    if len(said) >= _HEAD.size:
                        number, probe = head(said)
                        self.udp[number].answered(probe)
        for path in self.icmp:
            path.look()


def roomy(it: socket.socket) -> socket.socket:
    it.setblocking(False)
    it.setsockopt(socket.SOL_SOCKET, _FORCE, _ROOM)
    return it


def waiting(it: socket.socket) -> Iterator[bytes]:
    """What waits in a socket. An ICMP error that waits there is about some probe, and says nothing of
    others."""
    while True:
        try:
            yield it.recv(2048)
        except BlockingIOError:
            return
        except OSError:
            continue


class Path:
    """One path: `send` at its times, `received` when a connection of it is ready, `expire` what was not
    answered."""

    def __init__(self, number: int, address: str, port: int, losses: Losses, sockets: Sockets) -> None:
        self.number, self.address, self.port = number, address, port
        self.losses, self.sockets, self.ready = losses, sockets, sockets.ready
        self.pending: dict[int, float] = {}
        self.sent = 0
        self.start()

    def start(self) -> None:
        raise NotImplementedError

    def send(self, now: float) -> None:
        raise NotImplementedError

    def received(self, it: socket.socket) -> None:
        raise NotImplementedError

    def expire(self, now: float) -> None:
        while self.pending:
            number = next(iter(self.pending))
            if now - self.pending[number] < LOST:
                return
            self.losses.lost(self.number, self.pending.pop(number))


class Udp(Path):
    def start(self) -> None:
        self.flows = self.sockets.flows(self)
        self.where = (self.address, self.port)

    def send(self, now: float) -> None:
        number = self.sent
        self.pending[number] = now
        self.sent = number + 1
        # Not connected: an ICMP error of one probe is no error of the next.
        with contextlib.suppress(OSError):
            self.flows[number % FLOWS].sendto(_HEAD.pack(self.number, number) + b"l3net chaos", self.where)

    def answered(self, number: int) -> None:
        self.pending.pop(number, None)


class Forbidden(Udp):
    """The other way round: an answer is what must not be."""

    def answered(self, number: int) -> None:
        if (at := self.pending.pop(number, None)) is not None:
            self.losses.lost(self.number, at, "answered")

    def expire(self, now: float) -> None:
        for number in [number for number, at in self.pending.items() if now - at >= LOST]:
            del self.pending[number]


class Icmp(Path):
    """Echo requests by a raw socket."""

    def start(self) -> None:
        six = family_of(self.address) == socket.AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        self.it = roomy(socket.socket(family_of(self.address), socket.SOCK_RAW, protocol))
        self.it.connect((self.address, 0))
        self.request, self.reply, self.skip = (128, 129, 0) if six else (8, 0, 20)
        self.identity = (os.getpid() * 64 + self.number) & 0xFFFF
        self.sockets.icmp.append(self)

    def send(self, now: float) -> None:
        number = self.sent & 0xFFFF
        self.pending[number] = now
        self.sent += 1
        text = struct.pack("!BBHHH", self.request, 0, 0, self.identity, number)
        if self.skip:  # of ICMPv6 the kernel makes it
            text = text[:2] + struct.pack("!H", checksum(text)) + text[4:]
        with contextlib.suppress(OSError):
            self.it.send(text)

    def look(self) -> None:
        for whole in waiting(self.it):
            said = whole[self.skip :]
            if len(said) >= 8 and said[0] == self.reply:
                identity, number = struct.unpack_from("!HH", said, 4)
                if identity == self.identity:
                    self.pending.pop(number, None)


class Held(Path):
    """A TCP connection that says something ten times a second. What ends it is told; being late is not a
    loss."""

    it: socket.socket | None = None

    def start(self) -> None:
        self.again(0.0)

    def again(self, now: float) -> None:
        self.opened = now
        self.up = False
        self.it = socket.socket(family_of(self.address), socket.SOCK_STREAM)
        self.it.setblocking(False)
        self.ready.register(self.it, selectors.EVENT_READ, self)
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
        self.sent += 1

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
        self.sent += 1
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
    """Paths that are probed at one time, and when next."""

    at: float
    every: float
    paths: list[Path]


def run(dues: list[Due], losses: Losses, sockets: Sockets, ended: list[int]) -> None:
    paths = [path for due in dues for path in due.paths]
    look = expire = stop = 0.0
    while not stop or time.monotonic() < stop:
        now = time.monotonic()
        wait = LOOK if stop else max(0.0, min(due.at for due in dues) - now)
        for key, _ in sockets.ready.select(wait):
            key.data.received(key.fileobj)
        now = time.monotonic()
        for due in dues if not stop else ():
            if due.at <= now:
                for path in due.paths:
                    path.send(now)
                # What was missed is not made up for.
                due.at = max(due.at + due.every, now)
        if now - look > LOOK:
            look = now
            sockets.look()
        if now - expire > 2 * LOOK:
            expire = now
            for path in paths:
                path.expire(now)
            losses.over(now)
        if ended and not stop:  # what is under way is waited for
            stop = now + LOST + 0.2


def planned(
    wanted: list[tuple[int, str, str, int]], every: float, losses: Losses, sockets: Sockets
) -> list[Due]:
    """Kinds that are probed alike go together: a wake-up for all of them."""
    found: dict[float, Due] = {}
    began = time.monotonic()
    for number, kind, address, port in wanted:
        seconds = max(every, EVERY.get(kind, every))
        # Times that are no multiples of one another, lest all of them meet.
        due = found.setdefault(seconds, Due(began + len(found) * every / 3, seconds, []))
        due.paths.append(KINDS[kind](number, address, port, losses, sockets))
    return list(found.values())


def main(out: str, wanted: list[tuple[int, str, str, int]], every: float) -> None:
    losses, sockets = Losses(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)), Sockets()
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, end)
    dues = planned(wanted, every, losses, sockets)
    losses.write({"started": time.monotonic()})
    run(dues, losses, sockets, ended)
    losses.end(sum(path.sent for due in dues for path in due.paths))


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:  # noqa: PTH123 - Path is a path that is probed
        main(sys.argv[1], json.load(file), float(sys.argv[3]))
