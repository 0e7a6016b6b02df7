"""The real processes: the door, the web server without rights, and what happens when one of them goes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glass_answers as answers
import pytest

from l3net.glass.door import keep_door
from l3net.lab.wait import until

TOKEN = "0123456789abcdef" * 2
CANARY = "canary-3f9c"


@contextlib.contextmanager
def agent(run: Path, node: str = "n1") -> Iterator[list[str]]:
    """One that answers on RUN_DIR/agent.sock; the questions it was asked."""
    path = run / "agent.sock"
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(64)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    question = connection.makefile().readline().strip()
                    asked.append(question)
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(json.dumps(answers.answer(question, node)).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            path.unlink()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def glass(
    run: Path, *options: str, before: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`before`: a command that runs it."""
    port = free_port()
    argv = [*before, sys.executable, "-m", "l3net.cli.main", "glass", "--listen", f"127.0.0.1:{port}"]
    running = subprocess.Popen([*argv, "--run-dir", str(run), *options], stderr=subprocess.PIPE)
    try:
        until(lambda: listens(port) or running.poll() is not None, 20, "it does not listen")
        yield running, port
    finally:
        running.terminate()
        running.wait()
        if running.stderr is not None:
            running.stderr.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", f"/api/v1/{path}", headers=headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def web_server(running: subprocess.Popen[bytes]) -> int:
    """The PID of the child."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    found = tmp_path / "run"
    found.mkdir(mode=0o700)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_web_server_has_no_rights_and_its_end_is_the_doors(run: Path) -> None:
    with agent(run), glass(run) as (running, port):
        assert get(port, "fabric")[1]["nodes"][0]["node"] == "n1"
        child = web_server(running)
        said = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{child}/status").read_text().splitlines()
            if ":" in line
        )
        assert set(said["Uid"].split()) == {"65534"}
        assert "0" not in said["Gid"].split()
        assert said["Groups"].split() == []
        assert {said[each].strip() for each in ("CapEff", "CapPrm")} == {"0000000000000000"}
        assert said["NoNewPrivs"].strip() == "1"
        os.kill(child, signal.SIGKILL)
        assert running.wait(10) == -signal.SIGKILL or running.returncode > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("given", [True, False])
def test_a_container_needs_two_capabilities(run: Path, given: bool) -> None:
    """Those of the chart are enough; the control: without them it says what it wants."""
    allowed = "-all,+setuid,+setgid" if given else "-all"
    confined = ("setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set={allowed}")
    with agent(run), glass(run, before=confined) as (running, port):
        if given:
            assert get(port, "fabric")[0] == 200
            assert running.stderr is not None
        else:
            assert running.wait(20) == 2
            assert running.stderr is not None
            assert b"CAP_SETUID" in running.stderr.read()


def test_the_web_server_ends_with_the_door(run: Path) -> None:
    with agent(run), glass(run) as (running, port):
        assert get(port, "fabric")[0] == 200
        child = web_server(running)
        running.kill()
        until(lambda: not Path(f"/proc/{child}").exists(), 10, "the web server goes on")


def test_whatever_an_agent_says_is_told_as_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = answers.answer("explain")
    said["steps"][0]["detail"] = {"prefix": "10.0.0.0/8", "nextHops": ["10.0.0.1"]}
    monkeypatch.setattr(answers, "answer", lambda *_: said)
    with agent(run), glass(run) as (_, port):
        assert get(port, "nodes/self/explain?subject=address%2010.0.0.1") == (200, said)


def test_an_agent_that_goes_and_comes_back(run: Path) -> None:
    with glass(run) as (running, port):
        assert get(port, "nodes/self/status")[0] == 503
        assert get(port, "fabric")[1]["nodes"][0]["state"] == "unreachable"
        with agent(run):
            until(lambda: get(port, "nodes/self/status")[0] == 200, 10, "it does not see the agent")
        until(lambda: get(port, "nodes/self/status")[0] == 503, 10, "it answers for an agent that is gone")
        running.terminate()
        assert running.wait(10) == 0


@pytest.mark.parametrize(
    "question",
    [
        b"plan /etc",
        b"drain",
        b"ready",
        b"",
        b"brief\nplan /etc",
        b"history " + b"x" * 5000,
        b"\xff\xfe",
        b"status x\n",
    ],
)
def test_the_door_asks_nothing_else(run: Path, question: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with agent(run) as asked, ours, theirs:
        door = threading.Thread(target=keep_door, args=(theirs, run / "agent.sock"))
        door.start()
        if question:
            ours.send(question)
            message, descriptors, _, _ = socket.recv_fds(ours, 1000, 1)
            assert (message[:1], descriptors) == (b"-", [])
            ours.send(b"brief")
            message, descriptors, _, _ = socket.recv_fds(ours, 1000, 1)
            assert message == b"+"
            with socket.socket(fileno=descriptors[0]) as connection, connection.makefile() as lines:
                connection.setblocking(True)
                assert json.loads(lines.readline())["node"] == "n1"
        ours.shutdown(socket.SHUT_RDWR)
        door.join(10)
        assert not door.is_alive()
    assert asked in ([], ["brief"])


def test_a_cluster_of_nodes_over_http(run: Path, tmp_path: Path) -> None:
    """Two nodes with a token, one that is gone, one that is something else."""
    other = tmp_path / "other"
    other.mkdir()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with (
        agent(run),
        agent(other, "n2"),
        glass(run, "--token-file", str(token)) as (_, first),
        glass(other, "--token-file", str(token)) as (_, second),
        socket.create_server(("127.0.0.1", 0)) as strange,
    ):
        urls = {"n1": first, "n2": second, "gone": free_port(), "strange": strange.getsockname()[1]}
        options = [
            word for name, port in urls.items() for word in ("--node-url", f"{name}=http://127.0.0.1:{port}")
        ]
        stranger = threading.Thread(target=_no_http, args=(strange,), daemon=True)
        stranger.start()
        with glass(run, "--cluster", "--node-token-file", str(token), *options) as (_, port):
            rows = {row["node"]: row["state"] for row in get(port, "fabric")[1]["nodes"]}
            assert rows == {"n1": "ready", "n2": "ready", "gone": "unreachable", "strange": "unreachable"}
            assert get(port, "nodes")[1]["nodes"] == ["gone", "n1", "n2", "strange"]
            assert get(port, "nodes/n2/routes?limit=1")[1]["total"] == 5
            assert get(port, "nodes/gone/status")[0] == 503
            assert get(port, "nodes/other/status")[0] == 404
            assert get(port, "nodes/n1/routes?limit=x")[0] == 400
            assert get(port, "nodes/n1/birdwatcher/protocols/short")[1]["protocols"]
            assert len(get(port, "search?q=10.1.2.3")[1]["found"]) == 2
        # The control: without the token no node answers.
        with glass(run, "--cluster", *options) as (_, port):
            assert {row["state"] for row in get(port, "fabric")[1]["nodes"]} == {"unreachable"}


def _no_http(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail\r\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "0.0.0.0:9179"], "--token-file"),
        (["--listen", "nowhere"], "--listen nowhere"),
        (["--token-file", "/nonexistent/token"], "/nonexistent/token"),
        (["--user", "no-such-user"], "no-such-user"),
        (["--node-url", "n1=http://x"], "--cluster"),
        (["--cluster"], "--node-url"),
        (["--cluster", "--node-url", "n1=x"], "n1=x"),
        (["--allow-host", "http://x"], "--allow-host"),
        (["--listen", "192.0.2.77:9179", "--behind-proxy"], "192.0.2.77"),
    ],
)
def test_wrong_usage_is_told_in_a_line(options: list[str], said: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "L3NET"))}
    done = subprocess.run(
        [sys.executable, "-m", "l3net.cli.main", "glass", "--run-dir", str(tmp_path), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_is_never_told(run: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CANARY)  # too short: an error that must not name it
    done = subprocess.run(
        [sys.executable, "-m", "l3net.cli.main", "glass", "--token-file", str(token)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert CANARY not in done.stderr + done.stdout
