"""The CNI socket in simulated time: the server's side is the real code on one end of a socket pair, the
client's does as `plugin/l3net-cni.c` does.
"""

from __future__ import annotations

import array
import errno
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim_links import SimLinks, Space
from threads import Process, SimEvent

from l3net.cni.frame import ANSWER_HEADER, Answer, Call, decode_answer, encode_call

#: Seconds the client waits for an answer.
ANSWER_SECONDS = 60.0
#: Seconds STATUS waits for an agent.
STATUS_WAIT = 10.0


class Connection:
    """The server's end. `over`: something was said, or it hung up."""

    def __init__(self, process: Process, kernel: SimLinks, ours: socket.socket, space: Space | None) -> None:
        self._process, self._kernel, self._socket, self._space = process, kernel, ours, space
        self.over = SimEvent(process.world)
        self._open = True
        if space is not None:
            space.users += 1

    def settimeout(self, _seconds: float) -> None:
        pass

    def getsockopt(self, *wanted: int) -> Any:
        return self._socket.getsockopt(*wanted)

    def fileno(self) -> int:
        return self._socket.fileno()

    def recvmsg(self, *wanted: int) -> Any:
        return self._socket.recvmsg(*wanted)

    def sendall(self, octets: bytes) -> None:
        self._kernel.step("answer")
        self._process.check()
        self._socket.sendall(octets)
        self.over.set()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._socket.close()
        self.over.set()
        if self._space is not None:
            self._space.users -= 1
            self._kernel.settle(self._space)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Listener:
    """As a listening socket, of which each connection wakes one who accepts. It dies with its process."""

    def __init__(self, process: Process, kernel: SimLinks) -> None:
        self._process, self._kernel = process, kernel
        self._waiting: list[Connection] = []
        self._accepting: list[SimEvent] = []  # longest first
        self._shut = False

    @property
    def listens(self) -> bool:
        return not self._shut and not self._process.dead

    def accept(self) -> tuple[Connection, str]:
        while not self._waiting:
            if self._shut:
                raise OSError(errno.EINVAL, "shut down")
            come = SimEvent(self._process.world)
            self._accepting.append(come)
            come.wait()
        return self._waiting.pop(0), ""

    def connect(self, space: Space | None) -> tuple[Connection, socket.socket]:
        """The two ends. Raises OSError."""
        if not self.listens:
            raise OSError(errno.ECONNREFUSED, "connection refused")
        ours, theirs = socket.socketpair()
        made = Connection(self._process, self._kernel, ours, space)
        self._waiting.append(made)
        if self._accepting:
            self._accepting.pop(0).set()
        return made, theirs

    def shutdown(self, _how: int) -> None:
        self._shut = True
        for each in self._accepting:
            each.set()

    def close(self) -> None:
        """Also of a process that is no more: who waits for it hears that it is gone."""
        self._shut = True
        while self._waiting:
            self._waiting.pop().close()


class Client:
    """Executes the plugin. `listener` tells where the agent listens by now, if it does."""

    def __init__(
        self,
        process: Process,
        listener: Callable[[], Listener | None],
        state: Callable[[], Path],
        boot: Callable[[], str],
    ) -> None:
        self.process, self._listener, self._state, self._boot = process, listener, state, boot
        self._number = 0
        self.spooled = 0
        self.late: Callable[[Call], None] = lambda _call: None

    def call(self, call: Call, space: Space | None = None, patience: float = ANSWER_SECONDS) -> Answer | None:
        """Its answer; None where the client was killed after `patience` seconds."""
        command = call.environment["CNI_COMMAND"]
        answer = self._asked(call, space, patience)
        if command == "STATUS" and answer is None:
            ends = self.process.threads.monotonic() + min(patience, STATUS_WAIT)
            while answer is None and self.process.threads.monotonic() < ends:
                self.process.world.wait([], 0.25)
                answer = self._asked(call, space, patience)
        if answer is not None or patience < ANSWER_SECONDS:
            return answer
        if command == "DEL":
            return Answer(0) if self._spool(call) else Answer(1, b'{"code":11}')
        return Answer(1, b'{"code":%d}' % (50 if command == "STATUS" else 11))

    def _asked(self, call: Call, space: Space | None, patience: float) -> Answer | None:
        listener = self._listener()
        if listener is None:
            return None
        try:
            connection, theirs = listener.connect(space)
        except OSError:
            return None
        with theirs:
            descriptors = []
            if space is not None and not space.gone:
                descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [space.descriptor]))]
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            theirs.sendmsg([encode_call(call)], descriptors)
            if not connection.over.wait(patience):
                if patience >= ANSWER_SECONDS:
                    self.late(call)
                return None
            return _read(theirs)

    def _spool(self, call: Call) -> bool:
        self._number += 1
        at = int(self.process.threads.monotonic() * 1e9)
        try:
            directory = self._state() / "spool"
            directory.mkdir(mode=0o700, exist_ok=True)
            name = f"{self._boot()}.{at:019d}.{self._number}.del"
            (directory / name).write_bytes(encode_call(call))
        except OSError:
            return False
        self.spooled += 1
        return True


def _read(theirs: socket.socket) -> Answer | None:
    """What the server said; None where it hung up before that was whole."""
    theirs.setblocking(False)
    found = b""
    while True:
        try:
            part = theirs.recv(1 << 20)
        except OSError:
            break
        if not part:
            break
        found += part
        if len(found) >= ANSWER_HEADER.size:
            size = struct.unpack_from("<I", found, 8)[0]
            if len(found) >= ANSWER_HEADER.size + size:
                return decode_answer(found)
    return None
