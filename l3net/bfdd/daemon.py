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
import logging
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from random import SystemRandom

from l3net.bfd.control import ControlError, Hello, WantedSession, encode_hello, encode_state
from l3net.bfd.echo import discriminator_of
from l3net.bfd.packet import PacketError, decode
from l3net.bfd.session import BfdSession
from l3net.bfdd.agent_link import AgentEnd
from l3net.bfdd.echo import EchoPorts
from l3net.bfdd.running import Running, timing
from l3net.bfdd.sockets import MULTIHOP_PORT, SINGLE_HOP_PORT, Datagram, Sender, listen, receive
from l3net.errors import KernelError, L3netError
from l3net.model import Address
from l3net.naming import BFD_SOCKET
from l3net.shell.files.journal import is_journal, prefixed

REAL_TIME_PRIORITY = 20
#: mlockall(2): what is mapped now and later, each page once it is touched.
MLOCK_FLAGS = 1 | 2 | 4
#: Datagrams of one socket handled before the timers are looked at again.
AT_ONCE = 1024
LONGEST_WAIT = 1.0
FAREWELL_GAP = 0.03


def say(text: str) -> None:
    """One line on standard error, unless nobody takes it: a full pipe must not hold up the timers."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        with contextlib.suppress(OSError):
            os.write(2, line(text[:4000], time.time(), journal=is_journal(2)).encode()[:8192])


def line(text: str, now: float, *, journal: bool = False) -> str:
    """A line of the log, as L3NET_LOG_FORMAT says; `now` in seconds since 1970."""
    if journal:
        told = _json(text, now) if os.environ.get("L3NET_LOG_FORMAT") == "json" else f"l3net.bfd: {text}\n"
        return prefixed(told[:-1], logging.INFO) + "\n"
    if os.environ.get("L3NET_LOG_FORMAT") != "json":
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))} l3net.bfd: {text}\n"
    return _json(text, now)


def _json(text: str, now: float) -> str:
    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03}Z"
    return json.dumps({"time": at, "level": "info", "logger": "l3net.bfd", "message": text}) + "\n"


def become_real_time() -> str:
    """Take real-time priority and lock the memory; what could not be had, empty if all."""
    missing = []
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except OSError as err:
        lacks = "CAP_SYS_NICE, or cpu.rt_runtime_us of its cgroup is 0"
        missing.append(f"no real-time priority ({err.strerror}; {lacks}): nice -20 instead")
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MLOCK_FLAGS) != 0:
        missing.append(f"memory is not locked ({os.strerror(ctypes.get_errno())}; CAP_IPC_LOCK)")
    return ", ".join(missing)


class BfdProcess:
    """`run` returns after `stop`."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._random = SystemRandom()
        self._sessions: dict[Address, Running] = {}
        self._leaving: set[Running] = set()
        self._by_discriminator: dict[int, Running] = {}
        self._heap: list[tuple[float, int, Running]] = []
        self._pushed = 0
        self._listeners: dict[int, tuple[socket.socket, bool]] = {}
        self._epoll = select.epoll()
        self._problem = ""
        self._echo = EchoPorts(self._epoll, self._takes_echo, AT_ONCE)
        self._echo_problem = ""
        self._stopping = self._renewing = False
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._woken, select.EPOLLIN)
        self._agent: AgentEnd
        self._read_until = time.monotonic()  # all that had come by then has been read
        self.discarded = 0

    # --- beginning and end -------------------------------------------------------------------------------

    def run(self, inherited: int | None = None) -> None:
        """`inherited` is the descriptor a former process left (see `renew`).

        Raises ConfigError or KernelError when it cannot begin.
        """
        if inherited is None:
            self._agent = AgentEnd(AgentEnd.listen(self._run_dir / BFD_SOCKET), self._epoll)
            self._listen()
        else:
            self._take_over(inherited)
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

    def stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._woken, 1)  # a signal alone does not end the wait

    def renew(self) -> None:
        """Start again in this process, with the program and interpreter as they are on disk now; the sessions
        go on, since their state and all sockets are handed over."""
        self._renewing = True
        os.eventfd_write(self._woken, 1)

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

    def _say_farewell(self) -> None:
        """AdminDown to every peer, twice, so that our end is no failure to them (RFC 5880 section 6.8.16)."""
        now = time.monotonic()
        farewells = []
        for running in self._sessions.values():
            running.machine.disable(now)
            farewells += [(running.sender, payload) for payload in running.machine.take()]
        for _ in range(2):
            for sender, payload in farewells:
                sender.send(payload)
            time.sleep(FAREWELL_GAP)

    # --- starting again in place -------------------------------------------------------------------------

    def _hand_over(self) -> None:
        now = time.monotonic()
        for running in self._sessions.values():
            running.machine.keep_alive(now)
            running.send()
        self._agent.sock.set_inheritable(True)
        for sock, _ in self._listeners.values():
            sock.set_inheritable(True)
        left = {
            "control": self._agent.sock.fileno(),
            "listeners": [[number, multihop] for number, (_, multihop) in self._listeners.items()],
            "echo": self._echo.handed_over(),
            "sessions": [running.handed_over() for running in self._sessions.values()],
        }
        memory = os.memfd_create("l3net-bfd", 0)  # it may hold keys: in memory, and inherited
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(json.dumps(left).encode())
        say("starting again, sessions go on")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a second one would end the program that follows
        argv = [sys.executable, "-P", "-m", "l3net.bfdd.daemon", str(self._run_dir), str(memory)]
        os.execv(sys.executable, argv)  # noqa: S606 - fixed argv, this interpreter

    def _take_over(self, inherited: int) -> None:
        with os.fdopen(inherited, "rb") as file:
            file.seek(0)
            left = json.load(file)
        control = socket.socket(fileno=left["control"])
        control.set_inheritable(False)
        self._agent = AgentEnd(control, self._epoll)
        for number, multihop in left["listeners"]:
            sock = socket.socket(fileno=number)
            sock.set_inheritable(False)
            self._hear(sock, multihop)
        if left.get("echo") is not None:
            self._echo.take_over(left["echo"])
        now = time.monotonic()
        for row in left["sessions"]:
            try:
                running = Running.taken_over(row, now, self._random.random)
            except (ControlError, PacketError, KeyError, TypeError, ValueError, OSError) as err:
                say(f"a session could not be taken over and begins anew: {type(err).__name__}")
                continue
            self._sessions[running.wanted.peer] = running
            self._by_discriminator[running.machine.discriminator] = running
        for sock, multihop in self._listeners.values():  # what came meanwhile, before any timer
            for datagram in receive(sock, AT_ONCE):
                self._received(datagram, multihop, time.monotonic())
        self._open_echo()
        for running in self._sessions.values():
            self._settle(running)

    # --- one turn ----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        due = self._heap[0][0] if self._heap else None
        now = time.monotonic()
        wait = LONGEST_WAIT if due is None else min(LONGEST_WAIT, max(0.0, due - now))
        self._epoll.poll(wait)
        # What came before `now` is handled before what is due then, however long this process was held up,
        # and counts from when it came: a peer that fell silent meanwhile is not heard later than it was.
        now = time.monotonic()
        ready = self._epoll.poll(0)
        for descriptor, _ in ready:
            listener = self._listeners.get(descriptor)
            if listener is not None:
                for datagram in receive(listener[0], AT_ONCE):
                    # The wall clock may have been set: nothing came before the last turn had read all.
                    came = max(self._read_until, time.monotonic() - datagram.age)
                    self._received(datagram, listener[1], came)
            elif descriptor in self._echo:
                for payload, age in self._echo.read(descriptor):
                    self._echo_returned(payload, max(self._read_until, time.monotonic() - age))
        self._read_until = now
        self._expire(now)
        for descriptor, event in ready:
            if (
                descriptor not in self._listeners
                and descriptor not in self._echo
                and descriptor != self._woken
            ):
                self._serve(descriptor, event)

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
            packet = decode(datagram.payload)
            if packet.your_discriminator:
                running = self._by_discriminator.get(packet.your_discriminator)
            else:
                running = self._sessions.get(datagram.source)
            if running is None:
                raise PacketError("no session")
            running.receive(packet, datagram, multihop, now)
        except PacketError:
            self.discarded += 1
            return
        self._settle(running)

    def _echo_returned(self, payload: bytes, now: float) -> None:
        running = self._by_discriminator.get(discriminator_of(payload) or 0)
        if running is None or not running.machine.echo_returned(payload, now):
            self.discarded += 1
            return
        self._settle(running)

    def _takes_echo(self, datagram: Datagram) -> bool:
        running = self._sessions.get(datagram.source)
        return running is not None and running.takes_echo(datagram)

    def _open_echo(self) -> None:
        """Have the sockets that the sessions' echo needs, and say what cannot be had."""
        single = [running.wanted for running in self._sessions.values() if not running.wanted.multihop]
        problem = ", ".join(self._echo.want(single))
        if problem == self._echo_problem:
            return
        self._echo_problem = problem
        if problem:
            say(problem)
        self._agent.tell(encode_hello(self._hello()))

    def _hello(self) -> Hello:
        return Hello(os.getpid(), ", ".join(filter(None, (self._problem, self._echo_problem))))

    def _settle(self, running: Running) -> None:
        """Send what is to be sent, tell what changed, and note when the session is due again."""
        problem = running.send()
        if problem:
            say(f"{running.wanted.peer}: cannot send: {problem}")
        if running.machine.finished:
            self._forget(running)
            return
        news = running.news()
        if running not in self._leaving:
            for line in news:
                say(line)
            if running.untold() or news:
                self._agent.tell(encode_state(running.state()))
        due = running.machine.deadline
        if due is not None and due != running.queued:
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, running))
        running.queued = due

    def _forget(self, running: Running) -> None:
        running.close()
        running.queued = None
        self._by_discriminator.pop(running.machine.discriminator, None)
        self._leaving.discard(running)

    # --- the agent ---------------------------------------------------------------------------------------

    def _serve(self, descriptor: int, event: int) -> None:
        came, commands, why = self._agent.ready(descriptor, event)
        if came:
            self._agent.tell(encode_hello(self._hello()))
        if why:
            say(f"the agent is not understood: {why}")
        for command in commands:
            if isinstance(command, tuple):
                self._want(command)
            else:
                self._forgive(command)

    def _forgive(self, peer: Address) -> None:
        running = self._sessions.get(peer)
        if running is not None and running.failed:
            running.failed = False
            self._agent.tell(encode_state(running.state()))

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
                if following is not None:
                    self._forget(running)  # its farewells would disturb the one that follows
        for peer, each in by_peer.items():
            known = self._sessions.get(peer)
            if known is None:
                if not each.begin:
                    continue
                known = self._begin(each, now)
            elif known.wanted != each:
                known.wanted = each
                known.machine.set_timing(timing(each), now)
            self._settle(known)
            self._agent.tell(encode_state(known.state()))
        self._open_echo()
        gc.collect()  # rare, and the place for it

    def _begin(self, wanted: WantedSession, now: float) -> Running:
        discriminator = 0
        while discriminator == 0 or discriminator in self._by_discriminator:
            discriminator = self._random.getrandbits(32)  # hard to guess (RFC 5880 section 9)
        machine = BfdSession(discriminator, timing(wanted), now, self._random.random, wanted.key)
        running = Running(wanted, machine, Sender(wanted))
        self._sessions[wanted.peer] = self._by_discriminator[discriminator] = running
        return running


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
