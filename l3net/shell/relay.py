"""ExaBGP's only API process: a bridge between its pipes and one client on a Unix socket.

Run by ExaBGP as `python -I relay.py SOCKET HANG_SECONDS`, with the standard library alone, so that it starts
fast and cannot break with the agent. Its promises: it never stops reading ExaBGP's events (a full pipe blocks
ExaBGP and drops every session at its hold time), it serves one client at a time and drops one that does not
read, a new client never sees the answers to an older one's commands, and an ExaBGP that stops answering is
killed, which its supervisor turns into a restart.

Each time ExaBGP answers its question, SOCKET.alive is touched, for a probe to look at.

Lines from the client are commands, passed on as they are, but for those that begin with `!`:
`!restart` ends ExaBGP with SIGTERM (its supervisor starts it again with the configuration on disk).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

#: A client whose unread events exceed this is dropped; it reconnects and resynchronises.
CLIENT_BACKLOG = 256 << 20
#: Commands waiting for ExaBGP beyond this make the relay stop reading the client.
COMMAND_BACKLOG = 1 << 20
#: What a pipe holds. More would be memory that the kernel gives and takes for each line.
CHUNK = 1 << 16
#: Said of each new client, before anything of its own: it may be older than what the last one asked for.
PLAIN = b"l3net form plain\n"
#: What follows the socket's name in that of the file that is touched.
ALIVE_SUFFIX = ".alive"


class Relay:
    """State of the bridge; `run` returns when ExaBGP closes its end."""

    def __init__(self, path: str, hang: float) -> None:
        self._path = path
        self._hang = hang
        self._selector = selectors.DefaultSelector()
        self._listener = self._listen()
        self._client: socket.socket | None = None
        self._events = b""  # from ExaBGP, not yet a whole line
        self._to_client = bytearray()
        self._to_exabgp = bytearray()
        self._from_client = b""
        self._unanswered = 0  # commands of the current client
        self._stale = 0  # commands of clients that have gone
        self._ping_sent: float | None = None
        self._asked_at = (0.0, 0.0)  # how long ExaBGP had run, and waited for a processor, when it was asked
        self._ping_line_seen = False
        self._next_ping = time.monotonic() + 1.0

    def _listen(self) -> socket.socket:
        for name in (self._path, self._path + ALIVE_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(self._path)
        finally:
            os.umask(old)
        listener.listen(4)
        listener.setblocking(False)
        return listener

    def run(self) -> None:
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self._selector.register(0, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        parent = os.getppid()
        while True:
            self._watch_writes()
            for key, mask in self._selector.select(self._patience()):
                if key.fd == 0:
                    if not self._read_exabgp():
                        return
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.fd == 1:
                    self._write_exabgp()
                elif self._client is not None and key.fileobj is self._client:
                    client = self._client
                    if mask & selectors.EVENT_READ:
                        self._read_client(client)
                    if self._client is client and mask & selectors.EVENT_WRITE:
                        self._write_client(client)
            self._watch_health(parent)

    def _watch_writes(self) -> None:
        """Ask the selector only for what can make progress."""
        self._watch(1, selectors.EVENT_WRITE if self._to_exabgp else 0)
        if self._client is not None:
            wanted = selectors.EVENT_WRITE if self._to_client else 0
            if len(self._to_exabgp) < COMMAND_BACKLOG and not self._stale:
                wanted |= selectors.EVENT_READ
            self._watch(self._client, wanted)

    def _watch(self, end: int | socket.socket, wanted: int) -> None:
        key = self._selector.get_map().get(end)
        if key is None:
            if wanted:
                self._selector.register(end, wanted)
        elif not wanted:
            self._selector.unregister(end)
        elif key.events != wanted:
            self._selector.modify(end, wanted)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._drop_client()  # the newest wins: an older one may be a dead peer we have not noticed
            self._client = client
            self._to_exabgp += PLAIN
            self._stale += 1

    def _drop_client(self) -> None:
        if self._client is None:
            return
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._client)
        self._client.close()
        self._client = None
        self._to_client.clear()
        self._from_client = b""
        self._stale += self._unanswered
        self._unanswered = 0

    def _read_client(self, client: socket.socket) -> None:
        try:
            chunk = client.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._drop_client()
            return
        *lines, self._from_client = (self._from_client + chunk).split(b"\n")
        for line in lines:
            if line == b"!restart":
                os.kill(os.getppid(), signal.SIGTERM)
            elif line:
                self._to_exabgp += line + b"\n"
                self._unanswered += 1
        self._write_exabgp()

    def _write_client(self, client: socket.socket) -> None:
        try:
            sent = client.send(self._to_client)
            del self._to_client[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._drop_client()

    def _write_exabgp(self) -> None:
        if not self._to_exabgp:
            return
        with contextlib.suppress(BlockingIOError):
            sent = os.write(1, self._to_exabgp[:CHUNK])
            del self._to_exabgp[:sent]

    def _read_exabgp(self) -> bool:
        try:
            chunk = os.read(0, CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        *lines, self._events = (self._events + chunk).split(b"\n")
        for line in lines:
            self._route(line)
        if self._client is not None and self._to_client:
            self._write_client(self._client)
        if len(self._to_client) > CLIENT_BACKLOG:
            self._drop_client()
        return True

    def _route(self, line: bytes) -> None:
        """An event goes to the client; an answer to whoever asked."""
        if line in {b"done", b"error"}:
            # ExaBGP writes the version line and its `done` together, so no other answer stands between.
            if self._ping_line_seen:
                self._ping_line_seen = False
                self._ping_sent = None
                with contextlib.suppress(OSError):  # a full file system ends no session
                    Path(self._path + ALIVE_SUFFIX).touch(mode=0o600)
                return
            if self._stale:
                self._stale -= 1
                return
            if self._unanswered:
                self._unanswered -= 1
        elif self._ping_sent is not None and line.startswith(b"exabgp "):
            self._ping_line_seen = True
            return
        elif self._stale and not line.startswith(b'{ "exabgp"'):
            return  # data of an older client's question
        if self._client is not None:
            self._to_client += line + b"\n"

    def _patience(self) -> float:
        """Seconds until there is something to do without being told: nothing else wakes it."""
        due = self._next_ping if self._ping_sent is None else self._ping_sent + self._hang
        left = due - time.monotonic()
        if left > 0:
            return left
        return 0.5 if self._to_exabgp or self._ping_sent is not None else 0.0

    def _watch_health(self, parent: int) -> None:
        now = time.monotonic()
        if self._ping_sent is not None:
            if self._hangs(parent, now - self._ping_sent) and os.getppid() == parent:
                sys.stderr.write(f"l3net relay: ExaBGP has not answered for {self._hang:.0f} s, killing it\n")
                os.kill(parent, signal.SIGKILL)
                self._ping_sent = now
        elif now >= self._next_ping and not self._to_exabgp:
            self._to_exabgp += b"version\n"
            self._ping_sent = now
            self._asked_at = used(parent)[:2]
            self._next_ping = now + 1.0

    def _hangs(self, parent: int, seconds: float) -> bool:
        """Whether ExaBGP should have answered. One that gets no processor does not hang, and would take
        longer still to start again."""
        if seconds <= self._hang:
            return False
        ran, waited, ready = used(parent)
        # The wait that goes on is counted at its end.
        return (ran - self._asked_at[0] if ready else seconds - (waited - self._asked_at[1])) > self._hang


def used(process: int) -> tuple[float, float, bool]:
    """Seconds that a process has run and has waited for a processor, and whether it does either now.

    As Linux counts (Documentation/scheduler/sched-stats.rst); where it does not: none, and no.
    """
    try:
        ran, waited = Path(f"/proc/{process}/schedstat").read_text().split()[:2]
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return int(ran) / 1e9, int(waited) / 1e9, state == "R"
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0, False


if __name__ == "__main__":
    Relay(sys.argv[1], float(sys.argv[2])).run()
