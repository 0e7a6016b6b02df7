"""The other end of a BFD process's socket, in the agent's place."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from l3net.bfd.control import Hello, SessionState, WantedSession, decode_event, encode_wanted
from l3net.lab.host import Host


class Agent:
    """Asks for sessions, and takes down how they are."""

    def __init__(self, host: Host) -> None:
        self._path = f"/proc/{host.pid}/root/run/l3net/bfd.sock"
        self._rest = b""
        self.hello: Hello | None = None
        self.states: dict[str, SessionState] = {}
        self.failures: dict[str, list[str]] = {}  # the diagnostic of each
        deadline = time.monotonic() + 20
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(self._path)
                break
            except OSError:
                assert time.monotonic() < deadline, host.log_tail("bfd")
                time.sleep(0.05)

    def want(self, *wanted: WantedSession) -> None:
        self._socket.sendall(encode_wanted(wanted))

    def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        self._socket.settimeout(0.1)
        while not condition():
            assert time.monotonic() < deadline, self.states
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            *lines, self._rest = (self._rest + received).split(b"\n")
            for line in lines:
                event = decode_event(line)
                if isinstance(event, Hello):
                    self.hello = event
                else:
                    before = self.states.get(str(event.peer))
                    self.states[str(event.peer)] = event
                    if event.failed and not (before is not None and before.failed):
                        self.failures.setdefault(str(event.peer), []).append(event.diagnostic)

    def state(self, peer: str) -> str:
        return self.states[peer].state if peer in self.states else ""

    def echo(self, peer: str) -> str:
        return self.states[peer].echo if peer in self.states else ""

    def close(self) -> None:
        self._socket.close()


def link_local(host: Host, link: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        shown = host.run(["ip", "-6", "-o", "addr", "show", "dev", link, "scope", "link"]).stdout
        if shown and "tentative" not in shown:
            return shown.split()[3].partition("/")[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
