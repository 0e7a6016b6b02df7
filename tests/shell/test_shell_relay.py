"""The relay: never blocks ExaBGP, never mixes answers up, ends an ExaBGP that hangs."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l3net.shell.speaker.config import unserved

RELAY = Path(__file__).parents[2] / "l3net" / "shell" / "relay.py"
EVENT = b'{ "exabgp": "5.0.0", "type": "state" }\n'


class Daemon:
    """Stands in for ExaBGP: the two pipes of its API process."""

    def __init__(self, directory: Path, hang: float = 60) -> None:
        self.path = directory / "s"
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(RELAY), str(self.path), str(hang)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin and self.process.stdout
        self.events, self.commands = self.process.stdin, self.process.stdout
        self.forms, self.form_answer = 0, b"done\n"
        until(self.path.exists)

    def say(self, data: bytes) -> None:
        self.events.write(data)
        self.events.flush()

    def command(self) -> bytes:
        """The next command of a client's; the relay's own are answered on the way as ExaBGP answers them."""
        while True:
            line = self.commands.readline().strip()
            if line == b"l3net form plain":
                self.forms += 1
                self.say(self.form_answer)
            elif line == b"version":
                self.say(b"exabgp 5.0.15\ndone\n")
            else:
                return line

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)

        def connected() -> bool:
            """The path is there a moment before the relay listens."""
            try:
                client.connect(str(self.path))
            except ConnectionRefusedError:
                return False
            return True

        until(connected)
        return client


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def lines(client: socket.socket, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < count:
        chunk = client.recv(65536)
        assert chunk, data
        data += chunk
    return data.splitlines()


def test_commands_and_events_pass(daemon: Daemon) -> None:
    client = daemon.connect()
    client.sendall(b"neighbor 10.0.0.1 announce eor ipv4 unicast\n")
    assert daemon.command() == b"neighbor 10.0.0.1 announce eor ipv4 unicast"
    daemon.say(b"done\n" + EVENT)
    assert lines(client, 2) == [b"done", EVENT.strip()]


def test_its_own_pings_are_not_the_clients_answers(daemon: Daemon) -> None:
    client = daemon.connect()
    assert daemon.commands.readline() == b"l3net form plain\n"
    daemon.say(daemon.form_answer)
    assert daemon.commands.readline() == b"version\n"
    client.sendall(b"show neighbor json\n")
    assert daemon.command() == b"show neighbor json"
    daemon.say(b"[]\ndone\nexabgp 5.0.15\ndone\n" + EVENT)
    assert lines(client, 3) == [b"[]", b"done", EVENT.strip()]


def test_a_new_client_never_sees_an_older_ones_answers(daemon: Daemon) -> None:
    first = daemon.connect()
    first.sendall(b"show neighbor json\nshow adj-rib out json\n")
    assert daemon.command() == b"show neighbor json"
    assert daemon.command() == b"show adj-rib out json"
    first.close()
    second = daemon.connect()
    second.sendall(b"show neighbor json\n")
    daemon.say(b'[1]\ndone\n{"peer": 1}\n' + EVENT + b"done\n")
    assert daemon.command() == b"show neighbor json"  # held back until the old answers were in
    daemon.say(b"[2]\ndone\n")
    assert lines(second, 3) == [EVENT.strip(), b"[2]", b"done"]


@pytest.mark.parametrize("answer", [b"done\n", b"error\n"], ids=["ours", "a plain ExaBGP"])
def test_a_new_client_is_told_prefixes_as_exabgp_tells_them(daemon: Daemon, answer: bytes) -> None:
    """It may be older than the one before, which has asked for another form; it hears no answer to this."""
    daemon.form_answer = answer
    for number in (1, 2):
        with daemon.connect() as client:
            client.sendall(b"one\n")
            assert daemon.command() == b"one"
            assert daemon.forms == number
            daemon.say(EVENT + b"done\n")
            assert lines(client, 2) == [EVENT.strip(), b"done"]


def test_the_newest_client_wins(daemon: Daemon) -> None:
    first = daemon.connect()
    second = daemon.connect()
    assert first.recv(1) == b""
    daemon.say(EVENT)
    assert lines(second, 1) == [EVENT.strip()]


def test_events_are_read_with_no_client_and_with_one_that_does_not_read(daemon: Daemon) -> None:
    """A pipe holds 64 KiB: were the relay to stop reading, these writes would block and time out."""
    daemon.say(EVENT * 20_000)
    slow = daemon.connect()
    daemon.say(EVENT * 200_000)
    slow.close()
    client = daemon.connect()
    time.sleep(0.2)
    daemon.say(EVENT)
    assert EVENT.strip() in lines(client, 1)


def test_the_socket_is_for_root_alone(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600


def test_it_sleeps_while_nobody_says_anything(daemon: Daemon) -> None:
    """Longer than the half second at which it used to look around."""
    assert daemon.commands.readline() == b"version\n"  # not answered: it asks no more

    def still() -> bool:
        before = switches(daemon.process.pid)
        time.sleep(0.7)
        return switches(daemon.process.pid) == before

    until(still)


def switches(pid: int) -> str:
    """How often a process has begun to wait."""
    return Path(f"/proc/{pid}/status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0]


def test_it_ends_with_exabgp(daemon: Daemon) -> None:
    daemon.events.close()
    assert daemon.process.wait(10) == 0


def parent(directory: Path, *, answers: bool, spins: bool = False) -> subprocess.Popen[bytes]:
    """A process that runs the relay as ExaBGP does, and answers its pings or not; or is busy for ever."""
    script = f"""
import subprocess, sys
relay = subprocess.Popen([sys.executable, "-I", {str(RELAY)!r}, {str(directory / "s")!r}, "1"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for line in relay.stdout:
    while {spins}:
        pass
    if {answers}:
        relay.stdin.write(b"exabgp 5.0.15\\ndone\\n"); relay.stdin.flush()
"""
    return subprocess.Popen([sys.executable, "-c", script])


def test_an_exabgp_that_does_not_answer_is_killed_and_one_that_does_is_not(tmp_path: Path) -> None:
    for name in ("hung", "busy", "fine"):
        (tmp_path / name).mkdir()
    hung, fine = parent(tmp_path / "hung", answers=False), parent(tmp_path / "fine", answers=True)
    busy = parent(tmp_path / "busy", answers=False, spins=True)
    try:
        assert hung.wait(20) == -9
        assert busy.wait(60) == -9
        assert fine.poll() is None
    finally:
        for process in (hung, busy, fine):
            process.kill()
            process.wait()


def test_an_exabgp_that_waits_for_a_processor_does_not_hang(tmp_path: Path) -> None:
    """Pinned to one processor with another that is better off, it needs longer than the limit."""
    processor = min(os.sched_getaffinity(0))
    busy = f"import os\nos.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", busy])
    script = f"""
import os, subprocess, sys, time
relay = subprocess.Popen([sys.executable, "-I", {str(RELAY)!r}, {str(tmp_path / "s")!r}, "0.3"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
os.nice(19)
os.sched_setaffinity(0, {{{processor}}})
for line in relay.stdout:
    end = time.thread_time() + 0.01
    while time.thread_time() < end: pass
    relay.stdin.write(b"exabgp 5.0.15\\ndone\\n"); relay.stdin.flush()
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        until(lambda: process.poll() is not None or (tmp_path / "s.alive").exists(), 60)
        assert process.poll() is None
    finally:
        for each in (process, other):
            each.kill()
            each.wait()


def test_restart_ends_exabgp_gently(tmp_path: Path) -> None:
    process = parent(tmp_path, answers=True)
    try:
        until((tmp_path / "s").exists)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "s"))
        client.sendall(b"!restart\n")
        assert process.wait(10) == -15
    finally:
        process.kill()
        process.wait()


def test_it_imports_nothing_but_the_standard_library() -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(RELAY)!r});"
        "print([name for name in sys.modules if name.split('.')[0] in ('l3net', 'click', 'pyroute2')])"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert found.stdout.strip() == "[]"


def test_a_probe_is_told_while_exabgp_answers(daemon: Daemon, tmp_path: Path) -> None:
    """That the socket is there is no sign of it."""
    assert unserved(tmp_path)
    alive = Path(f"{daemon.path}.alive")
    daemon.path.rename(tmp_path / "speaker.sock")

    def answered() -> bool:
        assert daemon.commands.readline() == b"version\n"
        daemon.say(b"exabgp 5.0.15\ndone\n")
        return alive.exists()

    until(answered)
    alive.rename(tmp_path / "speaker.sock.alive")
    assert unserved(tmp_path) == ""
    os.utime(tmp_path / "speaker.sock.alive", (time.time() - 60, time.time() - 60))
    assert "60 s ago" in unserved(tmp_path)
