"""What ExaBGP sends: in order and whole, and a peer that stops reading is nobody else's affair.

In ExaBGP 5.0.15 each message writes itself to the socket. One that is half written when the peer's window is
full can have a KEEPALIVE in its middle, which garbles all that follows; while the window is full ExaBGP
spins; a reload is put off while any peer has routes queued; and a peer that never reads again keeps its
session for ever. Here

- messages wait behind one another in a buffer of the connection; ExaBGP's loop sleeps until that can be sent;
- a reload waits for no peer's queue, and what is queued outlives it;
- a send hold timer (RFC 9687) ends the session of a peer for which nothing could be written for so long:
  NOTIFICATION 8/0, as far as that can be, and a reset. `send-hold-time N` in a neighbour's description sets
  it, 0 is never: ExaBGP takes a change of that over a session as it is. It never cuts short the hold time;
- a peer that asks for all routes again and again (RFC 2918) has them queued once.

Used inside ExaBGP's process only.
"""

from __future__ import annotations

import contextlib
import errno
import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

from exabgp.bgp.message import _NOP, Notify, Update
from exabgp.bgp.message.open.capability.refresh import REFRESH
from exabgp.reactor.loop import Reactor
from exabgp.reactor.network.connection import Connection
from exabgp.reactor.network.error import NetworkError
from exabgp.reactor.network.error import error as errors
from exabgp.reactor.peer import ACTION, Peer
from exabgp.reactor.protocol import Protocol
from exabgp.rib.outgoing import OutgoingRIB
from exabgp.util.errstr import errstr

from l3net.shell.speaker.exabgp_queueing import grouped

#: RFC 9687 section 3: SendHoldTime is the greater of these seconds and twice the hold time.
SEND_HOLD_TIME: Final = 480
SEND_HOLD_TIMER_EXPIRED: Final = 8
_SETTING: Final = re.compile(r"send-hold-time ([0-9]+)")
_HEADER: Final = 19
_RESET: Final = struct.pack("ii", 1, 0)

#: Connections whose socket takes nothing more; those that were closed, by descriptor.
_blocked: set[Any] = set()
_closed: set[int] = set()


def unsent_seconds(connection: Any) -> float:
    """For how long nothing could be written, 0 if nothing waits to be."""
    since: float = getattr(connection, "l3net_stuck", 0.0)
    return time.monotonic() - since if since and connection.io is not None else 0.0


def anything_blocked() -> bool:
    """Whether a connection's socket takes nothing more."""
    return bool(_blocked)


def _flush(connection: Any, waiting: bytearray) -> None:
    """Write what the socket takes. Raises NetworkError, the connection closed."""
    while waiting:
        try:
            sent = connection.io.send(waiting)
        except OSError as err:
            if err.errno in errors.block:
                connection.l3net_stuck = getattr(connection, "l3net_stuck", 0.0) or time.monotonic()
                _blocked.add(connection)
                return
            connection.close()
            if err.errno == errno.EPIPE:
                raise NetworkError("Broken TCP connection") from None
            raise NetworkError(f"Problem while writing data to the network ({errstr(err)})") from None
        del waiting[:sent]
        connection.l3net_written = getattr(connection, "l3net_written", 0) + sent
        connection.l3net_stuck = 0.0
        _blocked.discard(connection)


def _write(connection: Any, message: bytes) -> Iterator[bool]:
    """One message, behind those before it. Yields False until it is written, then True."""
    if connection.io is None:
        yield True
        return
    waiting = connection.__dict__.setdefault("l3net_unsent", bytearray())
    waiting += message
    end = getattr(connection, "l3net_written", 0) + len(waiting)
    while connection.io is not None:
        _flush(connection, waiting)
        if connection.l3net_written >= end:
            break
        yield False
    yield True


def send_hold_time(peer: Any) -> float:
    """The peer's, in seconds; 0 if it has none."""
    hold = int(peer.proto.negotiated.holdtime)
    setting = _SETTING.search(peer.neighbor["description"] or "")
    if setting is None:
        return max(SEND_HOLD_TIME, 2 * hold)
    return max(int(setting[1]), hold) if int(setting[1]) else 0


def _check_send_hold(peer: Any, stuck: float) -> None:
    """Raises Notify when the timer has expired."""
    limit = send_hold_time(peer)
    if not limit or stuck < limit:
        return
    # A reset frees what the kernel holds for the peer; of a window that is full it would never get rid.
    with contextlib.suppress(OSError):
        peer.proto.connection.io.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    expired = Notify(SEND_HOLD_TIMER_EXPIRED, 0, b"")
    expired.l3net_why = "send hold timer expired"
    raise expired


def prefixes_in(message: bytes) -> int:
    """Of an UPDATE: how many IPv4 prefixes it announces or withdraws outside its attributes."""
    found, at = 0, _HEADER
    withdrawn = at + 2 + int.from_bytes(message[at : at + 2], "big")
    attributes = withdrawn + 2 + int.from_bytes(message[withdrawn : withdrawn + 2], "big")
    for start, end in ((at + 2, withdrawn), (attributes, len(message))):
        position = start
        while position < end:
            position += 1 + (message[position] + 7) // 8
            found += 1
    return found


def queued(peer: Any) -> int:
    """Prefixes that are yet to be written to the peer's socket."""
    rib = peer.neighbor.rib.outgoing
    under_way = getattr(peer.proto, "l3net_left", 0) if peer.proto is not None else 0
    return len(rib._new_nlri) + len(rib._refresh_changes) + under_way


def _send_updates(proto: Any, include_withdraw: bool) -> Iterator[Any]:
    """What is queued, counted down as it is written."""
    rib = proto.neighbor.rib.outgoing
    left = len(rib._new_nlri) + len(rib._refresh_changes)
    updates = rib.updates(proto.neighbor["group-updates"])
    if proto.neighbor["group-updates"]:
        updates = grouped(updates)
    proto.l3net_left = left
    for update in updates:
        several = len(getattr(update, "nlris", ()))
        written = 0
        for message in update.messages(proto.negotiated, include_withdraw):
            for _ in proto.send(message):
                yield _NOP
            if several > 1:
                written += prefixes_in(message)
                proto.l3net_left = max(0, left - written)
        left = max(0, left - several)
        proto.l3net_left = left
    proto.l3net_left = 0
    yield Update([], b"")


def install() -> None:
    """Have this process's ExaBGP send so."""
    main, close, wait = Peer._main, Connection.close, Reactor._wait_for_io
    reconfigure, reset = Peer.reconfigure, Peer._reset
    resend, requeue = Peer.resend, OutgoingRIB.resend

    def watched(self: Any) -> Iterator[Any]:
        """A session's steps: none of them at once again while its socket takes nothing."""
        for action in main(self):
            if not _blocked:  # nobody's; a hundred times a second for each peer
                yield action
                continue
            connection = self.proto.connection if self.proto is not None else None
            stuck = unsent_seconds(connection) if connection is not None else 0.0
            if not stuck:
                yield action
                continue
            _check_send_hold(self, stuck)
            yield ACTION.LATER if action == ACTION.NOW else action

    def close_connection(self: Any) -> None:
        _blocked.discard(self)
        if self.io is not None:
            _closed.add(self.io.fileno())
        close(self)

    def wait_for_io(self: Any, milliseconds: int) -> Any:
        while _closed:  # of one that is closed poll(2) would tell again and again
            with contextlib.suppress(KeyError, ValueError):
                self._poller.unregister(_closed.pop())
        for connection in [each for each in _blocked if each.io is not None]:
            # Until the peer's next turn without work, when ExaBGP registers it anew, for reading alone.
            self._poller.register(connection.fd(), select.POLLOUT)
        return wait(self, milliseconds)

    def keep_queues(self: Any, restart_neighbor: Any = None) -> None:
        if restart_neighbor is not None and restart_neighbor is not self.neighbor:
            for queue in ("eor", "refresh", "messages"):
                setattr(restart_neighbor, queue, getattr(self.neighbor, queue))
        reconfigure(self, restart_neighbor)

    def forget_end_of_rib(self: Any, message: str = "", error: Any = "") -> None:
        """What was queued for a session that has ended would come too early in the next (RFC 4724)."""
        reset(self, message, error)
        self.neighbor.eor.clear()

    def resend_as_agreed(self: Any, enhanced: Any, family: Any = None) -> None:
        """Demarcated only for a peer that knows of it (RFC 7313)."""
        agreed = self.proto is not None and self.proto.negotiated.refresh == REFRESH.ENHANCED
        resend(self, bool(enhanced) and agreed, family)

    def queue_once(self: Any, enhanced_refresh: Any, family: Any = None) -> None:
        wanted = {family} if family is not None else set(self.families)
        queue, families = getattr(self, "l3net_refreshing", (None, set()))
        if queue is not self._refresh_changes:  # what was queued has gone on its way
            families = set()
        for each in wanted - families:
            requeue(self, enhanced_refresh, each)
        self.l3net_refreshing = self._refresh_changes, families | wanted

    Connection.writer = _write
    Connection.close = close_connection
    Peer._main = watched
    Peer.reconfigure = keep_queues
    Peer._reset = forget_end_of_rib
    Peer.resend = resend_as_agreed
    Protocol.new_update = _send_updates
    OutgoingRIB.resend = queue_once
    Reactor._pending_adjribout = lambda _: False
    Reactor._wait_for_io = wait_for_io
