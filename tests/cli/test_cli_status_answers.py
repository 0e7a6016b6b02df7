"""What `l3net status --ready` says, also of an answer that is of another shape than this release's."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from l3net.cli.main import cli
from l3net.errors import L3netError
from l3net.naming import AGENT_SOCKET


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"ready": true, "why": ""}', 0),
        ('{"ready": false, "why": "the first pass is not done yet"}', 1),
        ("{}", 1),
        ('{"ready": false}', 1),
    ],
)
def test_an_answer_of_another_shape(tmp_path: Path, answer: str, code: int) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / AGENT_SOCKET))
        listening.listen()

        def say() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer.encode() + b"\n")

        thread = threading.Thread(target=say)
        thread.start()
        result = CliRunner().invoke(cli, ["status", "--ready", "--run-dir", str(tmp_path)])
        thread.join()
    if '"why"' in answer:
        assert (result.exit_code, result.output.split(":")[0]) == (code, "not ready" if code else "ready\n")
    else:  # as main() shows it
        assert isinstance(result.exception, L3netError) and result.exception.exit_code == code
        assert re.search(r"agent\.sock: its answer .*another release", str(result.exception))
