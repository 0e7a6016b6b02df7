"""What becomes of connections, told: NOTIFICATIONs that are sent, attempts that fail, why a session ends.

ExaBGP 5.0.15 tells of the NOTIFICATIONs that it receives alone, and that a session is down of connections too
that were none. Here

- a NOTIFICATION is told when it is sent, `direction: send`, before the `state down` that follows;
- `state down` is said of a session that was up. What ended before is an `attempt`: `direction` (out or in),
  `error`, and how many `seconds` it took; of a peer at most one in APART seconds, and the same again not
  before SAME_APART. A connection that is refused beside a session that is up is an attempt too, also where it
  is sent a NOTIFICATION: that says nothing of the session;
- reasons are in words of TCP and BGP.

Used inside ExaBGP's process only.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any, Final

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Notification, Notify
from exabgp.reactor.network.error import NetworkError
from exabgp.reactor.network.incoming import Incoming
from exabgp.reactor.peer import Peer
from exabgp.reactor.protocol import Protocol

from l3net.notification import Notification as Named
from l3net.shell.speaker.exabgp_telling import SESSION, tell

#: Seconds between attempts that are told, of one peer; and between those that say the same.
APART: Final = 3.0
SAME_APART: Final = 10.0
#: Seconds for which a NOTIFICATION waits for room in the socket's buffer.
PATIENCE: Final = 0.5

_ERRNO: Final = re.compile(r"\[Errno (E[A-Z]+)\]")
_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the peer",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connection timed out",
    errno.EPIPE: "the peer closed the connection",
    errno.EACCES: "forbidden by a firewall of this host",
    errno.EPERM: "forbidden by a firewall of this host",
}
_CLOSED: Final = "the peer closed the connection"
#: As ExaBGP closes a connection for another one of the same peer's.
_COLLISION: Final = "closing outgoing connection as we have another"


def in_words(error: int) -> str:
    """An error of the kernel's about a connection."""
    return _WORDS.get(error) or os.strerror(error).lower()


def tell_attempt(peer: Any, direction: str, error: str, seconds: float) -> None:
    """An attempt that came to nothing, if it is not one of too many."""
    now = time.monotonic()
    last, said = getattr(peer, "l3net_attempt", (-SAME_APART, ""))
    if now - last < (SAME_APART if said == error else APART):
        return
    peer.l3net_attempt = now, error
    content = {"direction": direction, "error": error, "seconds": round(seconds, 3)}
    tell(peer.reactor, peer.neighbor, "attempt", f'"attempt": {json.dumps(content)}')


def tell_notification(peer: Any, notification: Any) -> None:
    """A NOTIFICATION on its way to the peer, as ExaBGP tells of those that it receives."""
    processes = peer.reactor.processes
    if processes.silence:
        return
    for process in peer.neighbor.api[SESSION]:
        encoder = processes._encoder[process]
        line = encoder.notification(peer.neighbor, "send", notification, None, b"", b"")
        processes.write(process, line, peer.neighbor)


def named(notification: Any, side: str) -> str:
    """`NOTIFICATION sent 2/2 (Bad Peer AS)`."""
    code, subcode = notification.code, notification.subcode
    name = str(Named(code, subcode, side == "received")).rpartition(" (")[0]
    return f"NOTIFICATION {side} {code}/{subcode} ({name})"


def _of_network(error: NetworkError) -> str:
    """Why a connection is lost."""
    told = str(error)
    if found := _ERRNO.search(told):
        return in_words(getattr(errno, found[1], 0))
    return _CLOSED if "closed by the remote end" in told or "Broken TCP" in told else told


def why_down(message: str, error: Any) -> str:
    """The reason of a session's end, of what ExaBGP has to say about it."""
    if isinstance(error, NetworkError):
        return _of_network(error)
    why = getattr(error, "l3net_why", "")
    return f"{why}: {message}" if why else message


def why_not_up(peer: Any, message: str, error: Any) -> str:
    """The error of an attempt, empty where there is none: the session is not wanted any more."""
    if isinstance(error, Notify):
        why = getattr(error, "l3net_why", "")
        return f"{why}: {named(error, 'sent')}" if why else named(error, "sent")
    if isinstance(error, Notification):
        return named(error, "received")
    if isinstance(error, NetworkError):
        lost = _of_network(error)
        when = "after" if peer.fsm == FSM.OPENCONFIRM else "before"
        return f"{lost} {when} its OPEN" if lost == _CLOSED else lost
    if message.startswith(_COLLISION):
        return "given up for another connection of the peer's (connection collision)"
    return "" if message.startswith("stop,") else message


def direction_of(connection: Any) -> str:
    return "in" if connection.direction == Incoming.direction else "out"


def age_of(connection: Any) -> float:
    """Seconds since it was dialled, or accepted."""
    began: float = getattr(connection, "l3net_began", time.monotonic())
    return time.monotonic() - began


def refuse(peer: Any, connection: Any, refusal: Iterator[Any]) -> None:
    """Send the NOTIFICATION that ExaBGP refuses an accepted connection with, and close it.

    `refusal` sends it: at once, since nothing has been sent by it before.
    """
    for _ in itertools.islice(refusal, 8):
        pass
    code, subcode, why = connection.l3net_refused
    connection.close()
    error = f"{named(Notify(code, subcode), 'sent')}: {why}"
    tell_attempt(peer, "in", error, age_of(connection))


def install() -> None:
    """Have this process's ExaBGP tell so."""
    close, send = Peer._close, Protocol.new_notification
    refused = Incoming.notification

    def close_and_tell(self: Any, message: str = "", error: Any = "") -> None:
        if self.fsm != FSM.ESTABLISHED:
            connection = self.proto.connection if self.proto is not None else None
            why = why_not_up(self, message, error) if connection is not None else ""
            if why:
                tell_attempt(self, direction_of(connection), why, age_of(connection))
            self.fsm.change(FSM.IDLE)  # of what was not up, ExaBGP does not say that it is down then
        close(self, why_down(message, error), error)

    def send_and_tell(self: Any, notification: Any) -> Iterator[Any]:
        if self.connection is None or self.connection.io is None:
            return  # the connection is gone: nobody is told anything
        tell_notification(self.peer, notification)
        stuck = getattr(self.connection, "l3net_stuck", 0.0)
        deadline = (stuck or time.monotonic()) + PATIENCE
        for sent in send(self, notification):
            yield sent
            if time.monotonic() > deadline:
                return

    def note_refusal(self: Any, code: int, subcode: int, message: str) -> Any:
        self.l3net_refused = code, subcode, message
        return refused(self, code, subcode, message)

    Peer._close = close_and_tell
    Protocol.new_notification = send_and_tell
    Incoming.notification = note_refusal
