"""The helper of the plugin where no agent runs: a warm process that takes calls on a socket until it is idle.

It says whether it begins a call (`BEGUN`), and what it has not begun is carried out by a process of its own,
as if there were no helper. So it may end, or be killed, at any instant. It is found by a name that callers of
the same namespaces and the same program come to (`plugin/l3net-cni.c`), and whoever starts one holds a lock
that it keeps as long as it lives.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from l3net.attach.callsocket import Answering, CallSocket, still_there
from l3net.attach.reaper import Reaper
from l3net.cni.frame import BEGUN, ELSEWHERE, Answer, Call
from l3net.errors import StillWiredError
from l3net.faults import Faults
from l3net.shell.kernel.netlink import Netlink

WORKERS: Final = 8
#: Seconds between two looks at whether the program and the stores are still those that it was started with.
LOOK_INTERVAL: Final = 2.0
#: Seconds for which such a look is good while calls come.
LOOK_GOOD_FOR: Final = 0.5
#: Seconds that DEL waits for its interface to be gone.
GONE_WAIT: Final = 20.0

_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)
#: What a call means by a relative path is seen from its own working directory.
_RELATIVE = re.compile(rb'"(dataDir|resolvConf)"\s*:\s*"[^/"]')
#: Where a process is, and what paths mean there.
_PLACES: Final = ("ns/net", "ns/mnt", "ns/user", "root")


class AwaitedReaper(Reaper):
    """Deletes links of calls at the same time in one go, and each call waits until its own is gone: what was
    answered is done, whatever becomes of this process."""

    def doom(self, netlink: Netlink, host_ifname: str) -> bool:
        found = super().doom(netlink, host_ifname)
        if found and not self.flush(GONE_WAIT):
            raise StillWiredError(f"delete {host_ifname}", 110)  # ETIMEDOUT
        return found


def places_of(process: str) -> list[tuple[int, int]] | None:
    """What tells the namespaces and the root directory of a process apart; None if it cannot be told."""
    try:
        found = [os.stat(f"/proc/{process}/{each}") for each in _PLACES]  # noqa: PTH116
    except OSError:
        return None
    return [(each.st_dev, each.st_ino) for each in found]


class Files:
    """Files as they were when this was made. `clock` gives monotonic seconds."""

    def __init__(self, paths: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._seen = {path: self._mark(path) for path in paths}
        self._clock = clock
        self._looked = clock()

    def changed(self) -> str:
        """One that is another by now, or gone; empty if there is none. A look is good for a moment."""
        if self._clock() - self._looked < LOOK_GOOD_FOR:
            return ""
        for path, seen in self._seen.items():
            if self._mark(path) != seen:
                return path
        self._looked = self._clock()
        return ""

    @staticmethod
    def _mark(path: str) -> tuple[int, int, int, int] | None:
        try:
            found = os.stat(path)  # noqa: PTH116 - of a hundred files, at a call
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Counted:
    """Verbs whose calls are counted while they are under way."""

    def __init__(self, verbs: Answering, under_way: Callable[[], object]) -> None:
        self._verbs = verbs
        self._under_way = under_way

    def answer(self, call: Call, netns: int | None, awaited: Callable[[], bool] = lambda: True) -> Answer:
        with self._under_way():  # type: ignore[attr-defined]
            return self._verbs.answer(call, netns, awaited)

    def abandon(self, call: Call, answer: Answer) -> None:
        with self._under_way():  # type: ignore[attr-defined]
            self._verbs.abandon(call, answer)


class Helper:
    """`verbs_for` tells whose verbs a call is for; `outdated` why another process should carry calls out,
    empty if this one may; `idle` is in seconds. In the namespaces of its callers."""

    def __init__(
        self,
        verbs_for: Callable[[Call], Answering],
        outdated: Callable[[], str],
        idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verbs_for = verbs_for
        self._outdated = outdated
        self._idle = idle
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = 0
        self._last = clock()
        self._served = 0
        self._stopping = threading.Event()
        self._found_out = os.pipe()  # written to by whoever meets a reason to end
        self._own = places_of("self")

    @property
    def served(self) -> int:
        """Calls carried out so far."""
        return self._served

    def run(self, path: Path, woken: int) -> str:
        """Take calls until there is a reason to end, which is returned; what is under way is finished.

        `woken` is a descriptor that can be read from when it is to end.
        """
        calls = CallSocket(
            path,
            lambda call: _Counted(self._verbs_for(call), self._under_way),
            lambda: None,
            self._stopping,
            Faults(),
            admit=self._admit,
        )
        calls.start(WORKERS)
        try:
            while True:
                if why := self._outdated():
                    return why
                left = self._left()
                if left <= 0:
                    return f"no call for {self._idle:g} s"
                if woken in select.select([woken, self._found_out[0]], [], [], min(left, LOOK_INTERVAL))[0]:
                    return "it was told to end"
        finally:
            self._stopping.set()
            calls.close()

    def _left(self) -> float:
        """Seconds until it has been idle for long enough."""
        with self._lock:
            return self._idle if self._busy else self._last + self._idle - self._clock()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            self._served += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._last = self._clock()

    def _admit(self, connection: socket.socket, call: Call) -> bool:
        """Say whether the call is begun here. Who hears nothing, as of one that ends, asks the next."""
        if self._stopping.is_set() or not still_there(connection):
            return False
        over = self._outdated()
        if over or self._foreign(connection) or self._elsewhere(call):
            if over:
                os.write(self._found_out[1], b".")
            with suppress(OSError):
                connection.sendall(ELSEWHERE)
            return False
        connection.sendall(BEGUN)
        return True

    def _foreign(self, connection: socket.socket) -> bool:
        """Whether the caller is in another namespace, or has another root directory."""
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(packed)[0]
        return pid <= 0 or self._own is None or places_of(str(pid)) != self._own

    @staticmethod
    def _elsewhere(call: Call) -> bool:
        """Whether a path of the call is relative."""
        searched = call.environment.get("CNI_PATH", "").split(":")
        return bool(_RELATIVE.search(call.stdin)) or any(each and each[0] != "/" for each in searched)
