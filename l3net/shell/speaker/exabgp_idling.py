"""How ExaBGP waits: until something can happen.

ExaBGP 5.0.15 gives each peer a turn a hundred times a second, for ever. Here its loop sleeps while each peer
is known to wait for nothing but

- its socket: to be read while a session is up, or its OPEN or first KEEPALIVE is due; to be connected while
  it is dialled (`exabgp_dialling`);
- a time: of its hold timer, of the KEEPALIVE that is due, of an attempt's end or the next one.

Commands of API processes, those who dial in (`listening`) and signals end a sleep too. While a peer is in any
other state, cannot be written to or has work left over, the loop goes on as ever. It sleeps no longer than
LONGEST: timers go by the clock of the wall, which may be set.

What is under way in a session that is up stands in the variables of `Peer._main` alone: they are looked at.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

from exabgp.bgp.fsm import FSM
from exabgp.environment import getenv
from exabgp.reactor.loop import Reactor
from exabgp.reactor.peer import Peer

from l3net.shell.speaker import exabgp_sending

#: Seconds after which ExaBGP looks at its timers at the latest.
LONGEST: Final = 2.0
#: So often may a sleep in a row end at once, by what ExaBGP does not take up, until it goes on as ever.
IN_VAIN: Final = 20
#: A sleep that ends within so many seconds ends at once.
AT_ONCE: Final = 0.001
#: Variables of `Peer._main`: a peer that has nothing under way has none of them.
UNDER_WAY: Final = ("new_routes", "refresh", "operational", "command_eor", "send_eor")
_READ: Final = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLNVAL | select.POLLERR

#: Until when (seconds from now), and a descriptor with the events that are waited for.
Wait = tuple[float, int, int]
_FOR_EVER: Final = float("inf")
_NOTHING: Final[Wait] = (_FOR_EVER, -1, 0)


def _hold_timer(peer: Any) -> float:
    """Seconds until it expires: when more than the hold time has passed, in whole seconds."""
    timer = peer.recv_timer
    return float(timer.last_read + timer.holdtime + 1 - time.time()) if timer.holdtime else _FOR_EVER


def _keepalive(sending: Any) -> float:
    """Seconds until a KEEPALIVE is due."""
    timer = sending.send_timer
    return float(timer.last_sent + timer.keepalive - time.time()) if timer.keepalive else _FOR_EVER


def _of_session(peer: Any) -> Wait | None:
    """Of one that is up: nothing is under way, nothing waits to be sent."""
    steps = getattr(peer, "l3net_main", None)
    frame = steps.gi_frame if steps is not None else None
    neighbor = peer.neighbor
    queued = neighbor.rib.outgoing.pending() or neighbor.refresh or neighbor.eor or neighbor.messages
    if frame is None or queued:
        return None
    found = frame.f_locals
    if any(found.get(name, True) for name in UNDER_WAY) or "send_ka" not in found:
        return None
    return min(_hold_timer(peer), _keepalive(found["send_ka"])), peer.proto.fd(), _READ


def _of_attempt(peer: Any) -> Wait | None:
    """Of one that is dialled."""
    dialled = getattr(peer, "l3net_dialled", None)
    if dialled is None or not dialled.l3net_until:
        return None
    return dialled.l3net_until - time.monotonic(), dialled.fd(), select.POLLOUT


def _of_steps(peer: Any) -> Wait | None:
    """Of a peer whose steps are under way, by its state."""
    if peer.proto is None:
        return _of_attempt(peer)
    if peer.proto.fd() < 0:
        return None
    if peer.fsm == FSM.OPENSENT:
        return peer.l3net_open_by - time.time(), peer.proto.fd(), _READ
    if peer.fsm == FSM.OPENCONFIRM:
        return _hold_timer(peer), peer.proto.fd(), _READ
    return _of_session(peer) if peer.fsm == FSM.ESTABLISHED else None


def waits_for(peer: Any) -> Wait | None:
    """What a peer waits for that had no work in its turn; None if that is not known."""
    if peer._teardown is not None or peer._neighbor is not None or peer.neighbor["rate-limit"] > 0:
        return None
    if peer.neighbor["passive"] and peer.proto is None:  # ExaBGP gives it no turn
        return _NOTHING
    if peer.generator:
        return _of_steps(peer)
    if peer.generator is False:  # until it is called, or told something
        return _NOTHING
    return float(peer._delay._time - time.time()), -1, 0


def take_commands(reactor: Any) -> None:
    """As the loop does after the peers' turns: so they are carried out before, not behind two of each."""
    for service, command in reactor.processes.received():
        reactor.api.process(reactor, service, command)
    reactor.asynchronous.run()


class Sleeper:
    """Of one reactor."""

    def __init__(self) -> None:
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._in_vain = 0

    def sleep(self, reactor: Any, least: float) -> bool:
        """Sleep until something can happen; False, and no sleep, if that is not known, or within `least`
        seconds."""
        waits = self._waits(reactor)
        if waits is None:
            return False
        seconds = min([LONGEST, *(wait[0] for wait in waits)])
        if seconds <= least:
            return False
        if self._in_vain > IN_VAIN:
            self._in_vain = 0
            return False
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        for _, descriptor, events in waits:
            if descriptor >= 0:
                poller.register(descriptor, events)
        if reactor.signal.received:
            return False
        began = time.monotonic()
        ready = poller.poll(seconds * 1000)
        self._in_vain = self._in_vain + 1 if time.monotonic() - began < AT_ONCE else 0
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        if any(descriptor in reactor.processes.fds for descriptor, _ in ready):
            take_commands(reactor)
        return True

    def _waits(self, reactor: Any) -> list[Wait] | None:
        listener, processes = reactor.listener, reactor.processes
        if listener is None or processes._broken or reactor._stopping or exabgp_sending.anything_blocked():
            return None
        waits: list[Wait] = [(listener.next_try(), -1, 0)]
        for peer in reactor._peers.values():
            wait = waits_for(peer)
            if wait is None:
                return None
            waits.append(wait)
        waits += [(_FOR_EVER, descriptor, _READ) for descriptor in processes.fds]
        waits += [(_FOR_EVER, descriptor, select.POLLIN) for descriptor in listener.descriptors()]
        return waits


def install() -> None:
    """Have this process's ExaBGP wait so. First of the rooms: those that wrap what it does have their say."""
    wait, main, read_open = Reactor._wait_for_io, Peer._main, Peer._read_open
    sleepers: list[Sleeper] = []

    def wait_for_io(self: Any, milliseconds: int) -> Any:
        if milliseconds:
            if not sleepers:
                sleepers.append(Sleeper())
            if sleepers[0].sleep(self, milliseconds / 1000):
                milliseconds = 0
        return wait(self, milliseconds)

    def remembered(self: Any) -> Iterator[Any]:
        self.l3net_main = main(self)
        yield from self.l3net_main

    def timed(self: Any) -> Iterator[Any]:
        self.l3net_open_by = int(time.time()) + getenv().bgp.openwait + 1
        yield from read_open(self)

    Reactor._wait_for_io = wait_for_io
    Peer._main = remembered
    Peer._read_open = timed
