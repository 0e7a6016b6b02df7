"""The BFD process's end of its connection with the agent: one client at a time, and never a wait for it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path

from l3net.bfd.control import LONGEST_LINE, Command, ControlError, decode_command
from l3net.errors import ConfigError, refusal
from l3net.shell.files.rundir import claim

#: Events an agent may leave unread, in bytes, before it is dropped; it comes back and is told everything.
CLIENT_BACKLOG = 4 << 20


class AgentEnd:
    """`sock` listens. Registers itself and its client with `epoll`."""

    def __init__(self, sock: socket.socket, epoll: select.epoll) -> None:
        self.sock = sock
        self._epoll = epoll
        self._client: socket.socket | None = None
        self._incoming = b""
        self._outgoing = bytearray()
        epoll.register(sock.fileno(), select.EPOLLIN)

    @staticmethod
    def listen(path: Path) -> socket.socket:
        """The Unix socket, mode 0600. Raises ConfigError, also when another process serves it."""
        claim(path.parent)
        try:
            probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                probe.connect(str(path))
                raise ConfigError(f"a BFD process already serves {path}")
            path.unlink(missing_ok=True)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            old = os.umask(0o177)
            try:
                sock.bind(str(path))
            finally:
                os.umask(old)
            sock.listen(4)
        except OSError as err:
            raise ConfigError(f"{path}: {refusal(err, 'BFD needs root')}") from err
        return sock

    def ready(self, descriptor: int, event: int) -> tuple[bool, list[Command], str]:
        """Handle what epoll says: (whether an agent has just come, its commands, what was not understood)."""
        if descriptor == self.sock.fileno():
            return self._accept(), [], ""
        client = self._client
        commands: list[Command] = []
        why = ""
        if client is not None and descriptor == client.fileno():
            if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                commands, why = self._read(client)
            if event & select.EPOLLOUT:
                self._write()
        return False, commands, why

    def tell(self, line: bytes) -> None:
        if self._client is not None:
            self._outgoing += line
            self._write()

    def _accept(self) -> bool:
        try:
            client, _ = self.sock.accept()
        except OSError:
            return False
        client.setblocking(False)
        self._drop()  # the newest wins: an older one may be dead without our knowing
        self._client = client
        self._epoll.register(client.fileno(), select.EPOLLIN)
        return True

    def _drop(self) -> None:
        """Without an agent everything goes on."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._client.fileno())
            self._client.close()
        self._client, self._incoming = None, b""
        self._outgoing.clear()

    def _read(self, client: socket.socket) -> tuple[list[Command], str]:
        try:
            chunk = client.recv(1 << 16)
        except BlockingIOError:
            return [], ""
        except OSError:
            chunk = b""
        *lines, self._incoming = (self._incoming + chunk).split(b"\n")
        why = ""
        commands: list[Command] = []
        try:
            commands += map(decode_command, lines)
        except ControlError as err:
            why = str(err)
        if not chunk or why or len(self._incoming) > LONGEST_LINE:
            self._drop()
        return commands, why

    def _write(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            sent = client.send(self._outgoing)
            del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return
        if len(self._outgoing) > CLIENT_BACKLOG:
            self._drop()
            return
        self._epoll.modify(client.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._outgoing else 0))
