"""How ExaBGP dials: one attempt after another, each with an end and a reason.

ExaBGP 5.0.15 dials a peer that cannot be reached again in each turn, a hundred times a second, without a
word; takes a refused connection for one, and waits up to a minute after it; and leaves an attempt that meets
silence (another MD5 key, GTSM, a firewall) to the kernel, which gives up after two minutes. Here an attempt
lasts no longer than CONNECT_LIMIT, the waits between grow by WAITS, and each failure is told.
Until when it waits is left in `l3net_until` of the connection (by time.monotonic(); 0 if it does not), and
the connection in `l3net_dialled` of the peer, for `exabgp_idling`.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

import errno
import itertools
import select
import socket
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

from exabgp.reactor.network.error import BindingError
from exabgp.reactor.network.outgoing import Outgoing
from exabgp.reactor.protocol import Protocol

from l3net.shell.speaker.exabgp_sessions import in_words, tell_attempt

#: Seconds an attempt waits for an answer to its SYN. Such a peer is told of within 10 s, and every 10 s.
CONNECT_LIMIT: Final = 9.0
#: Seconds between attempts: after the first, the second, and so on.
WAITS: Final = (0.1, 0.3, 1.0, 2.0, 3.0)
#: Seconds after one that met silence, which has taken its time.
WAIT_AFTER_SILENCE: Final = 1.0


def _no_socket(dialled: Any) -> str:
    """Make the socket, bound and protected; why it cannot be made, empty if it is."""
    try:
        problem = dialled._setup()
    except AttributeError as err:  # ExaBGP closes the socket that it has not got
        problem = err.__context__ or err
    if problem is None:
        return ""
    if isinstance(problem, BindingError):
        return f"cannot assign the local address {dialled.local}"
    return str(problem)


def _answered(dialled: Any) -> Generator[bool, None, str]:
    """Dial, and wait for the answer. Returns why there is no connection, empty if there is."""
    problem = _no_socket(dialled)
    if problem:
        return problem
    scope = (0, 0) if dialled.io.family == socket.AF_INET6 else ()
    error = dialled.io.connect_ex((dialled.peer, dialled.port, *scope))
    if error not in (0, errno.EINPROGRESS):
        return in_words(error)
    poller = select.poll()
    poller.register(dialled.io, select.POLLOUT)
    dialled.l3net_until = time.monotonic() + CONNECT_LIMIT
    while not poller.poll(0):
        if time.monotonic() > dialled.l3net_until:
            return f"connection timed out after {CONNECT_LIMIT:.0f} s (no answer on port {dialled.port})"
        yield False
    error = dialled.io.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return in_words(error) if error else ""


def _dial(dialled: Any) -> Iterator[bool]:
    """Until there is a connection; what failed on the way is left in `l3net_failed`, once."""
    for number in itertools.count():
        dialled.l3net_began = time.monotonic()
        problem = yield from _answered(dialled)
        if not problem:
            break
        if dialled.io is not None:
            dialled.io.close()
            dialled.io = None
        took = time.monotonic() - dialled.l3net_began
        dialled.l3net_failed = problem, took
        wait = WAIT_AFTER_SILENCE if took > CONNECT_LIMIT else WAITS[min(number, len(WAITS) - 1)]
        dialled.l3net_until = time.monotonic() + wait
        while time.monotonic() < dialled.l3net_until:
            yield False
    dialled.l3net_until = 0.0
    dialled.success()
    if not dialled.local:
        dialled.local = dialled.io.getsockname()[0]
    yield True


def install() -> None:
    """Have this process's ExaBGP dial so."""
    connect = Protocol.connect

    def connect_and_tell(self: Any) -> Iterator[Any]:
        try:
            for connected in connect(self):
                self.peer.l3net_dialled = self.connection
                failed = getattr(self.connection, "l3net_failed", None)
                if failed is not None:
                    self.connection.l3net_failed = None
                    tell_attempt(self.peer, "out", *failed)
                yield connected
        finally:
            self.peer.l3net_dialled = None

    Outgoing.establish = _dial
    Protocol.connect = connect_and_tell
