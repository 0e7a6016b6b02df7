"""`l3net node wait`: what it says of an agent that is not ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from l3net.cli.main import cli
from l3net.shell.sockets import agentsocket


def test_an_agent_that_gets_ready_and_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"ready": False, "why": "no session is established"}] * 2 + [{"ready": True, "why": ""}]

    def ask(path: Path, question: str) -> dict[str, Any]:
        assert (path.parent, question) == (tmp_path, "ready")
        return answers.pop(0)

    monkeypatch.setattr(agentsocket, "ask", ask)
    given = ["node", "wait", "--run-dir", str(tmp_path)]
    done = CliRunner().invoke(cli, given)
    assert (done.exit_code, done.output, answers) == (0, "", [])
    answers = [{"ready": False, "why": "no session is established"}]
    late = CliRunner().invoke(cli, [*given, "--timeout", "0"], standalone_mode=False)
    assert "after 0 s the agent is not ready: no session is established" in str(late.exception)
