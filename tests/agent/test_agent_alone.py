"""One agent a network namespace, whatever directories the second one has."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from l3net.shell.sockets.onlyagent import NAME

pytestmark = pytest.mark.netns


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"l3a{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False)


def agent(netns: str, base: Path, name: str) -> list[str]:
    (base / "manifests").mkdir(exist_ok=True)
    argv = ["ip", "netns", "exec", netns, sys.executable, "-m", "l3net.cli.main", "agent"]
    argv += ["--datastore", f"dir:{base / 'manifests'}", "--node-name", "n"]
    return [*argv, "--run-dir", str(base / f"run-{name}"), "--state-dir", str(base / f"state-{name}")]


def started(argv: list[str], socket_path: Path, undo: ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    undo.callback(process.wait)
    undo.callback(process.kill)
    deadline = time.monotonic() + 30
    while not socket_path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_the_second_names_the_first_and_ends(netns: str, tmp_path: Path) -> None:
    with ExitStack() as undo:
        first = started(agent(netns, tmp_path, "a"), tmp_path / "run-a" / "agent.sock", undo)
        second = subprocess.run(
            agent(netns, tmp_path, "b"), capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode == 2, second
        assert f"pid {first.pid}" in second.stderr and "Traceback" not in second.stderr
        assert not (tmp_path / "run-b").exists() and not (tmp_path / "state-b").exists()
        first.kill()  # without a word: the kernel lets go of the name
        first.wait()
        started(agent(netns, tmp_path, "b"), tmp_path / "run-b" / "agent.sock", undo)


def test_another_namespace_has_its_own(netns: str, tmp_path: Path) -> None:
    """The control: the same two agents, each in a namespace of its own."""
    with ExitStack() as undo:
        other = f"{netns}b"
        subprocess.run(["ip", "netns", "add", other], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "del", other], check=False)
        started(agent(netns, tmp_path, "a"), tmp_path / "run-a" / "agent.sock", undo)
        started(agent(other, tmp_path, "b"), tmp_path / "run-b" / "agent.sock", undo)


def test_whoever_may_not_configure_the_network_keeps_no_agent_away(netns: str, tmp_path: Path) -> None:
    """Any process of the namespace can take the name."""
    take = (
        "import os,socket,sys;os.setuid(65534);s=socket.socket(socket.AF_UNIX);"
        "s.bind(sys.argv[1]);s.listen();print('up',flush=True);sys.stdin.read()"
    )
    with ExitStack() as undo:
        argv = ["ip", "netns", "exec", netns, sys.executable, "-c", take.replace("sys.argv[1]", repr(NAME))]
        holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        undo.callback(holder.wait)
        undo.callback(holder.kill)
        assert holder.stdout and holder.stdout.readline() == b"up\n"
        process = started(agent(netns, tmp_path, "a"), tmp_path / "run-a" / "agent.sock", undo)
        process.kill()
        assert process.stderr
        assert f"pid {holder.pid} (uid 65534)" in process.stderr.read().decode()
