"""The BFD process: runs the sessions the agent wants, at real-time priority, and says what becomes of them.

A process of its own, of the standard library alone: a busy, hung or absent agent flaps no session, and a
speaker that restarts is not taken for a path that failed (RFC 5882 section 4.3). One thread, one wait: what
has been received is handled before any timer, so that a process that was held up gives no peer up for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import heapq
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from l3net.bfd.control import (
    LONGEST_LINE,
    ControlError,
    Hello,
    SessionState,
    WantedSession,
    decode_command,
    encode_hello,
    encode_state,
    encode_wanted,
)
from l3net.bfd.packet import PacketError, State, decode, diagnostic_text
from l3net.bfd.session import BfdSession, Timing
from l3net.errors import ConfigError, KernelError, L3netError
from l3net.model import Address
from l3net.naming import BFD_SOCKET
from l3net.shell.bfdsockets import (
    MAX_TTL,
    MULTIHOP_PORT,
    SINGLE_HOP_PORT,
    Datagram,
    Sender,
    listen,
    receive,
)

REAL_TIME_PRIORITY = 20
#: mlockall(2): what is mapped now and later, each page once it is touched.
MLOCK_FLAGS = 1 | 2 | 4
#: Datagrams of one socket handled before the timers are looked at again.
AT_ONCE = 1024
#: Events an agent may leave unread, in bytes, before it is dropped; it comes back and is told everything.
CLIENT_BACKLOG = 4 << 20
LONGEST_WAIT = 1.0
FAREWELL_GAP = 0.03


def say(text: str) -> None:
    """One line on standard error, unless nobody takes it: a full pipe must not hold up the timers."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        with contextlib.suppress(OSError):
            os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} l3net.bfd: {text}\n".encode()[:4096])


def become_real_time() -> str:
    """Take real-time priority and lock the memory; what could not be had, empty if all."""
    missing = []
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except OSError as err:
        missing.append(f"no real-time priority ({err.strerror}; CAP_SYS_NICE)")
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MLOCK_FLAGS) != 0:
        missing.append(f"memory is not locked ({os.strerror(ctypes.get_errno())}; CAP_IPC_LOCK)")
    return ", ".join(missing)


@dataclass(slots=True, eq=False)
class _Running:
    """A session, where it sends to, and what the agent has to know of it."""

    wanted: WantedSession
    machine: BfdSession
    sender: Sender
    failed: bool = False
    flaps: int = 0
    remote_diagnostic: int = 0
    shares_fate: bool = False
    queued: float | None = None  # the time it stands in the heap for
    problem: str = ""
    told: tuple[State, float, float] | None = None  # what the agent was told beside the state

    def shown(self) -> tuple[State, float, float]:
        machine = self.machine
        return machine.remote_state, machine.detection_time, machine.transmit_interval


class BfdProcess:
    """`run` returns after `stop`."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / BFD_SOCKET
        self._random = SystemRandom()
        self._sessions: dict[Address, _Running] = {}
        self._leaving: set[_Running] = set()
        self._by_discriminator: dict[int, _Running] = {}
        self._heap: list[tuple[float, int, _Running]] = []
        self._pushed = 0
        self._listeners: dict[int, tuple[socket.socket, bool]] = {}
        self._epoll = select.epoll()
        self._control: socket.socket | None = None
        self._client: socket.socket | None = None
        self._incoming = b""
        self._outgoing = bytearray()
        self._problem = ""
        self._stopping = self._renewing = False
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._woken, select.EPOLLIN)
        self.discarded = 0

    # --- beginning and end -------------------------------------------------------------------------------

    def run(self, inherited: int | None = None) -> None:
        """`inherited` is the descriptor a former process left (see `renew`).

        Raises ConfigError or KernelError when it cannot begin.
        """
        if inherited is None:
            self._control = self._listen_control()
            self._listen()
        else:
            self._resume(inherited)
        assert self._control is not None  # noqa: S101 - both ways set it
        self._epoll.register(self._control.fileno(), select.EPOLLIN)
        self._problem = become_real_time()
        say(f"ready, pid {os.getpid()}{'; ' + self._problem if self._problem else ', real-time priority'}")
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing here makes cycles; a pause would be paid in detection time
        while not self._stopping:
            self._turn()
            if self._renewing:
                self._hand_over()
        self._say_farewell()

    def _listen(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            for port in (SINGLE_HOP_PORT, MULTIHOP_PORT):
                try:
                    sock = listen(family, port)
                except KernelError as err:
                    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
                        say(f"{err}; IPv6 sessions stay down")
                        continue
                    raise
                self._hear(sock, port == MULTIHOP_PORT)

    def _hear(self, sock: socket.socket, multihop: bool) -> None:
        self._listeners[sock.fileno()] = (sock, multihop)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._woken, 1)  # a signal alone does not end the wait

    def renew(self) -> None:
        """Start again in this process, with the program and interpreter as they are on disk now; the sessions
        go on, since their state and all sockets are handed over."""
        self._renewing = True
        os.eventfd_write(self._woken, 1)

    def _hand_over(self) -> None:
        rows = []
        now = time.monotonic()
        for running in self._sessions.values():
            running.machine.keep_alive(now)
            for payload in running.machine.take():
                running.sender.send(payload)
            rows.append(
                {
                    "wanted": encode_wanted([running.wanted]).decode(),
                    "machine": running.machine.snapshot(),
                    "failed": running.failed,
                    "flaps": running.flaps,
                    "sharesFate": running.shares_fate,
                    "remoteDiagnostic": running.remote_diagnostic,
                    "socket": running.sender.handed_over(),
                }
            )
        assert self._control is not None  # noqa: S101 - it runs
        self._control.set_inheritable(True)
        for sock, _ in self._listeners.values():
            sock.set_inheritable(True)
        left = {
            "control": self._control.fileno(),
            "listeners": [[number, multihop] for number, (_, multihop) in self._listeners.items()],
            "sessions": rows,
        }
        memory = os.memfd_create("l3net-bfd", 0)  # it may hold keys: in memory, and inherited
        os.write(memory, json.dumps(left).encode())
        say("starting again, sessions go on")
        argv = [sys.executable, "-P", "-m", "l3net.shell.bfdd", str(self._run_dir), str(memory)]
        os.execv(sys.executable, argv)  # noqa: S606 - fixed argv, this interpreter

    def _resume(self, inherited: int) -> None:
        with os.fdopen(inherited, "rb") as file:
            file.seek(0)
            left = json.load(file)
        self._control = socket.socket(fileno=left["control"])
        self._control.set_inheritable(False)
        for number, multihop in left["listeners"]:
            sock = socket.socket(fileno=number)
            sock.set_inheritable(False)
            self._hear(sock, multihop)
        now = time.monotonic()
        for row in left["sessions"]:
            try:
                command = decode_command(row["wanted"].encode())
                assert isinstance(command, tuple)  # noqa: S101 - we wrote it
                [wanted] = command
                machine = BfdSession.resumed(
                    row["machine"], _timing(wanted), now, self._random.random, wanted.key
                )
                running = _Running(wanted, machine, Sender(wanted, row["socket"]))
                running.failed, running.flaps = row["failed"], row["flaps"]
                running.shares_fate, running.remote_diagnostic = row["sharesFate"], row["remoteDiagnostic"]
            except (ControlError, PacketError, KeyError, TypeError, ValueError, OSError) as err:
                say(f"a session could not be taken over and begins anew: {type(err).__name__}")
                continue
            self._sessions[wanted.peer] = self._by_discriminator[machine.discriminator] = running
        for sock, multihop in self._listeners.values():
            for datagram in receive(sock, AT_ONCE):
                self._received(datagram, multihop, time.monotonic())
        for running in self._sessions.values():
            self._settle(running)

    def _listen_control(self) -> socket.socket:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.parent.chmod(0o700)
            probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                probe.connect(str(self._path))
                raise ConfigError(f"a BFD process already serves {self._path}")
            self._path.unlink(missing_ok=True)
            control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            old = os.umask(0o177)
            try:
                control.bind(str(self._path))
            finally:
                os.umask(old)
            control.listen(4)
        except OSError as err:
            raise ConfigError(f"{self._path}: {err.strerror}; BFD needs root") from err
        return control

    def _say_farewell(self) -> None:
        """AdminDown to every peer, twice, so that our end is no failure to them (RFC 5880 section 6.8.16)."""
        now = time.monotonic()
        for running in self._sessions.values():
            running.machine.disable(now)
        for _ in range(2):
            for running in self._sessions.values():
                for payload in running.machine.take():
                    running.sender.send(payload)
                    running.sender.send(payload)
            time.sleep(FAREWELL_GAP)

    # --- one turn ----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        due = self._heap[0][0] if self._heap else None
        now = time.monotonic()
        wait = LONGEST_WAIT if due is None else min(LONGEST_WAIT, max(0.0, due - now))
        self._epoll.poll(wait)
        # What came before `now` is handled before what is due then, however long this process was held up.
        now = time.monotonic()
        ready = self._epoll.poll(0)
        for descriptor, _ in ready:
            listener = self._listeners.get(descriptor)
            if listener is not None:
                for datagram in receive(listener[0], AT_ONCE):
                    self._received(datagram, listener[1], time.monotonic())
        self._expire(now)
        for descriptor, event in ready:
            if self._control is not None and descriptor == self._control.fileno():
                self._accept()
            elif self._client is not None and descriptor == self._client.fileno():
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._read_client(self._client)
                if self._client is not None and event & select.EPOLLOUT:
                    self._write_client()

    def _expire(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, _, running = heapq.heappop(self._heap)
            if running.queued != due:
                continue  # it was moved since
            running.queued = None
            running.machine.expire(now)
            self._settle(running)

    def _received(self, datagram: Datagram, multihop: bool, now: float) -> None:
        try:
            if not multihop and datagram.ttl != MAX_TTL:
                raise PacketError("TTL")  # RFC 5881 section 5: from farther away than the link
            packet = decode(datagram.payload)
            if packet.your_discriminator:
                running = self._by_discriminator.get(packet.your_discriminator)
            else:
                running = self._sessions.get(datagram.source)
            if running is None or not _matches(running.wanted, datagram, multihop):
                raise PacketError("no session")
            running.machine.handle(packet, datagram.payload, now)
        except PacketError:
            self.discarded += 1
            return
        running.remote_diagnostic = packet.diagnostic
        running.shares_fate = not packet.control_plane_independent
        self._settle(running)

    def _settle(self, running: _Running) -> None:
        """Send what the machine wants sent, tell what changed, and note when it is due again."""
        machine = running.machine
        for payload in machine.take():
            running.sender.send(payload)
        if running.sender.problem != running.problem:
            running.problem = running.sender.problem
            if running.problem:
                say(f"{running.wanted.peer}: cannot send: {running.problem}")
        changes = machine.take_changes()
        if machine.finished:
            running.sender.close()
            self._by_discriminator.pop(machine.discriminator, None)
            self._leaving.discard(running)
            return
        for change in changes:
            if change.after is State.UP:
                running.failed = False
            elif change.before is State.UP:
                running.flaps += 1
                running.failed = change.failure
            if running not in self._leaving:
                say(f"{running.wanted.peer}: {change.after.text} ({change.diagnostic.text})")
        if running not in self._leaving and (changes or running.told != running.shown()):
            running.told = running.shown()
            self._tell(encode_state(self._state(running)))
        due = machine.deadline
        if due is not None and due != running.queued:
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, running))
        running.queued = due

    # --- the agent ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._control is not None  # noqa: S101 - it is what was accepted on
        with contextlib.suppress(OSError):
            client, _ = self._control.accept()
            client.setblocking(False)
            self._drop_client()  # the newest wins: an older one may be dead without our knowing
            self._client = client
            self._epoll.register(client.fileno(), select.EPOLLIN)
            self._tell(encode_hello(Hello(os.getpid(), self._problem)))

    def _drop_client(self) -> None:
        """Without an agent everything goes on."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._client.fileno())
            self._client.close()
        self._client, self._incoming = None, b""
        self._outgoing.clear()

    def _read_client(self, client: socket.socket) -> None:
        try:
            chunk = client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        *lines, self._incoming = (self._incoming + chunk).split(b"\n")
        try:
            for line in lines:
                command = decode_command(line)
                if isinstance(command, tuple):
                    self._want(command)
                else:
                    self._forgive(command)
        except ControlError as err:
            say(f"the agent is not understood: {err}")
            chunk = b""
        if not chunk or len(self._incoming) > LONGEST_LINE:
            self._drop_client()

    def _tell(self, line: bytes) -> None:
        if self._client is not None:
            self._outgoing += line
            self._write_client()

    def _write_client(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            sent = client.send(self._outgoing)
            del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop_client()
            return
        if len(self._outgoing) > CLIENT_BACKLOG:
            self._drop_client()
            return
        self._epoll.modify(client.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._outgoing else 0))

    def _forgive(self, peer: Address) -> None:
        running = self._sessions.get(peer)
        if running is not None and running.failed:
            running.failed = False
            self._tell(encode_state(self._state(running)))

    def _want(self, wanted: tuple[WantedSession, ...]) -> None:
        """Make the sessions those, and say how each is. One that stays the same does not notice."""
        now = time.monotonic()
        by_peer = {each.peer: each for each in wanted}
        for peer, running in list(self._sessions.items()):
            following = by_peer.get(peer)
            if following is None or following.identity != running.wanted.identity:
                del self._sessions[peer]
                self._leaving.add(running)
                running.machine.disable(now)
                self._settle(running)
        for peer, each in by_peer.items():
            known = self._sessions.get(peer)
            if known is None:
                if not each.begin:
                    continue
                known = self._begin(each, now)
            elif known.wanted != each:
                known.wanted = each
                known.machine.set_timing(_timing(each), now)
            self._settle(known)
            self._tell(encode_state(self._state(known)))
        gc.collect()  # rare, and the place for it

    def _begin(self, wanted: WantedSession, now: float) -> _Running:
        discriminator = 0
        while discriminator == 0 or discriminator in self._by_discriminator:
            discriminator = self._random.getrandbits(32)  # hard to guess (RFC 5880 section 9)
        machine = BfdSession(discriminator, _timing(wanted), now, self._random.random, wanted.key)
        running = _Running(wanted, machine, Sender(wanted))
        self._sessions[wanted.peer] = self._by_discriminator[discriminator] = running
        return running

    def _state(self, running: _Running) -> SessionState:
        machine = running.machine
        return SessionState(
            peer=running.wanted.peer,
            state=machine.state.text,
            remote_state=machine.remote_state.text,
            since=machine.since,
            diagnostic=machine.diagnostic.text,
            remote_diagnostic=diagnostic_text(running.remote_diagnostic),
            detection_time=round(machine.detection_time * 1000, 3),
            transmit_interval=round(machine.transmit_interval * 1000, 3),
            failed=running.failed,
            shares_fate=running.shares_fate,
            flaps=running.flaps,
        )


def _timing(wanted: WantedSession) -> Timing:
    interval = wanted.min_interval * 1000
    return Timing(interval, interval, wanted.multiplier, wanted.passive)


def _matches(wanted: WantedSession, datagram: Datagram, multihop: bool) -> bool:
    """Whether a datagram came the way the session's packets come."""
    if (wanted.peer, wanted.local, wanted.multihop) != (datagram.source, datagram.destination, multihop):
        return False
    if wanted.interface is None:
        return True
    try:
        return socket.if_nametoindex(wanted.interface) == datagram.interface
    except OSError:
        return False


def main(run_dir: str, inherited: str | None = None) -> int:
    """Run until SIGTERM; the exit code. SIGHUP starts it again without the sessions' noticing."""
    process = BfdProcess(Path(run_dir))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: process.stop())
    signal.signal(signal.SIGHUP, lambda _number, _frame: process.renew())
    try:
        process.run(int(inherited) if inherited is not None else None)
    except L3netError as err:
        say(str(err))
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
