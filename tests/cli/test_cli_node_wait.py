"""`l3net node wait`: what it waits for, when it stops, and what it says meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from l3net.cli import node
from l3net.cli.main import cli
from l3net.errors import L3netError, NotPermittedError, NotRunningError
from l3net.shell.sockets import agentsocket

NOT_READY = {"ready": False, "why": "no session is established", "unreachable": ""}
Answer = dict[str, Any] | L3netError


@pytest.fixture
def wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with an agent that answers so, the last for ever."""

    def run(answers: list[Answer], *given: str) -> Result:
        left = list(answers)

        def ask(path: Path, question: str, patience: float) -> dict[str, Any]:
            assert (path.parent, question) == (tmp_path, "ready")
            assert 1 <= patience <= agentsocket.TIMEOUT, "one answer takes no longer than --timeout"
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, L3netError):
                raise answer
            return answer

        monkeypatch.setattr(agentsocket, "ask", ask)
        argv = ["node", "wait", "--run-dir", str(tmp_path), *given]
        return CliRunner().invoke(cli, argv, standalone_mode=False)

    return run


def test_an_agent_that_gets_ready_and_one_that_does_not(wait: Callable[..., Result]) -> None:
    away, ready = NotRunningError("no agent answers"), {"ready": True, "why": "", "unreachable": ""}
    done = wait([away, NOT_READY, ready])
    assert (done.exception, done.output) == (None, "")
    late = wait([NOT_READY], "--timeout", "0")
    assert "after 0 s the agent is not ready: no session is established" in str(late.exception)
    assert wait([NOT_READY, away], "--timeout", "0.1").exception is away


def test_pods_need_no_session_for_ever(wait: Callable[..., Result]) -> None:
    assert wait([NOT_READY], "--for", "pods", "--timeout", "0").exception is None
    early = {**NOT_READY, "unreachable": "the first pass is not done yet"}
    assert "the first pass" in str(wait([early], "--for", "pods", "--timeout", "0").exception)
    older = {"ready": False, "why": "it is older"}
    assert "it is older" in str(wait([older], "--for", "pods", "--timeout", "0").exception)


def test_it_says_what_is_waited_for(wait: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SILENCE", 0.0)
    other = {**NOT_READY, "why": "waiting for the sessions with 192.0.2.1"}
    said = wait([NOT_READY, NOT_READY, other], "--timeout", "0.7").stderr.splitlines()
    assert said == [
        "l3net: no session is established; waiting, at most 0.7 s",
        "l3net: waiting for the sessions with 192.0.2.1; waiting, at most 0.7 s",
    ]


def test_what_does_not_change_is_not_waited_for(wait: Callable[..., Result]) -> None:
    refused = NotPermittedError("Permission denied; to ask the agent needs root")
    assert wait([refused]).exception is refused
    assert "of another release" in str(wait([{"error": "ask for: ..."}]).exception)


def test_it_ends_with_the_process(wait: Callable[..., Result]) -> None:
    """systemd starts no agent anew while ExecStartPost runs."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    try:
        late = wait([NOT_READY], "--timeout", "0", "--pid", str(process.pid))
        assert "after 0 s" in str(late.exception), "it runs"
    finally:
        process.kill()
    for reaped in (False, True):
        if reaped:
            process.wait()
        done = wait([NOT_READY], "--pid", str(process.pid))
        assert isinstance(done.exception, NotRunningError)
        assert str(done.exception) == f"process {process.pid} has ended: no session is established"


@pytest.mark.parametrize("given", ["--pid=0", "--pid=", "--pid=4194305", "--for=none", "--timeout=-1"])
def test_wrong_options(wait: Callable[..., Result], given: str) -> None:
    assert getattr(wait([NOT_READY], given).exception, "exit_code", None) == 2


@pytest.mark.parametrize("given", ["soon", "nan", "inf", ""])
def test_a_time_that_is_none(wait: Callable[..., Result], given: str) -> None:
    said = str(wait([NOT_READY], f"--timeout={given}").exception)
    assert f"{given!r} is not a number of seconds" in said


def test_what_the_unit_runs(wait: Callable[..., Result]) -> None:
    """It ends with the agent, waits for pods alone, and is over before systemd stops the agent."""
    unit = (Path(__file__).parents[2] / "deploy/systemd/l3net-agent.service").read_text()
    (line,) = re.findall(r"(?m)^ExecStartPost=-/usr/bin/l3net node wait (.*)$", unit)
    assert "--pid=${MAINPID}" in line.split()
    given = line.replace("${MAINPID}", str(os.getpid())).split()
    assert wait([NOT_READY], *given).exception is None
    (limit,) = re.findall(r"(?m)^TimeoutStartSec=(\d+)$", unit)
    assert float(given[given.index("--timeout") + 1]) + agentsocket.TIMEOUT < float(limit)
