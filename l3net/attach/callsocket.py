"""The CNI socket: takes the thin client's calls on a few threads, and gives each to the verbs."""

from __future__ import annotations

import array
import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.frame import REQUEST_HEADER, Answer, Call, call_length, decode_call, encode_answer
from l3net.errors import NotRunningError
from l3net.faults import Faults
from l3net.shell.threads import REAL, Event, Started, Threads

log = logging.getLogger(__name__)

#: Callers beyond the workers wait in the socket's backlog.
BACKLOG: Final = 512
#: Seconds a client may take to send its call or take its answer.
CLIENT_TIME: Final = 10.0

_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)


class Answering(Protocol):
    """What carries calls out."""

    def answer(self, call: Call, netns: int | None, awaited: Callable[[], bool] = ...) -> Answer: ...

    def abandon(self, call: Call, answer: Answer) -> None: ...


class CallSocket:
    """Listens from the moment it is made. `verbs_for` tells whose verbs a call is for.

    A worker runs `enter` first, which brings its thread into the namespace. `admit` is asked before a call is
    begun, with the connection that it came by; a call that is not admitted gets no answer.
    """

    def __init__(
        self,
        path: Path,
        verbs_for: Callable[[Call], Answering],
        enter: Callable[[], None],
        stopping: Event,
        faults: Faults,
        threads: Threads = REAL,
        listen: Callable[[Path], socket.socket] | None = None,
        admit: Callable[[socket.socket, Call], bool] = lambda _connection, _call: True,
    ) -> None:
        self._admit = admit
        self._path = path
        self._verbs_for = verbs_for
        self._enter = enter
        self._stopping = stopping
        self._faults = faults
        self._begin = threads.start
        self._threads: list[Started] = []
        self._listener = (listen or listening)(path)

    def start(self, workers: int) -> None:
        """Begin to take calls, so many at once."""
        self._threads = [
            self._begin(
                lambda: self._faults.supervised("CNI socket", self._accept, self._stopping), f"cni-{number}"
            )
            for number in range(workers)
        ]

    def close(self) -> None:
        """Take no more calls; what is under way is finished."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=60)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        """One worker: it takes a call from the socket itself, which saves a handing over."""
        self._enter()
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as err:
                if self._stopping.is_set() or err.errno == errno.EINVAL:  # shut down
                    return
                log.warning("CNI socket: %s", err)  # no descriptors, perhaps: they come back
                self._stopping.wait(0.1)
                continue
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(CLIENT_TIME)
                self._converse(connection)
        except (OSError, CniError) as err:
            log.warning("CNI client: %s", err)
        except Exception as err:
            self._faults.note("CNI client", err, lasting=False)

    def _converse(self, connection: socket.socket) -> None:
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(packed)[1]
        if uid not in {0, os.geteuid()}:
            raise CniError(failure.BAD_ENVIRONMENT, f"refused a call from uid {uid}")
        frame, netns = receive(connection)
        try:
            call = decode_call(frame)
            if not self._admit(connection, call):
                return
            verbs = self._verbs_for(call)
            answer = verbs.answer(call, netns, lambda: still_there(connection))
            self._deliver(connection, verbs, call, answer)
        finally:
            if netns is not None:
                os.close(netns)

    @staticmethod
    def _deliver(connection: socket.socket, verbs: Answering, call: Call, answer: Answer) -> None:
        """Send the answer; an ADD whose client is gone has failed as far as the runtime knows: undo it."""
        try:
            connection.sendall(encode_answer(answer))
        except OSError:
            if answer.exit_code == 0:
                verbs.abandon(call, answer)
            raise


def still_there(connection: socket.socket) -> bool:
    """Whether the client still waits for its answer: it says nothing more, and hangs up only by dying."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return not poll.poll(0)


def listening(path: Path) -> socket.socket:
    """A listening Unix socket in a 0700 directory; a dead one of a crash is replaced, a live one refused."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise NotRunningError(f"{path}: another process serves this socket; stop it first")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """A whole request frame and the descriptor that came with it. Raises CniError, OSError."""
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(descriptors.itemsize)
    parts, size, wanted = [], 0, REQUEST_HEADER.size
    try:
        header_read = False
        while size < wanted:
            data, ancillary, _, _ = connection.recvmsg(
                max(65536, min(wanted - size, 1 << 20)), space, socket.MSG_CMSG_CLOEXEC
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
            if not data:
                raise CniError(failure.CANNOT_DECODE, "the client hung up before its call was whole")
            parts.append(data)
            size += len(data)
            if not header_read and size >= REQUEST_HEADER.size:
                header_read = True
                parts = [b"".join(parts)]
                wanted += call_length(parts[0])
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return b"".join(parts), descriptors[0] if descriptors else None
