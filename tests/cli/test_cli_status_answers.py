"""What commands say of an answer of this node's agent that has another shape than this release's."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

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
    result = said(tmp_path, answer, "status", "--ready")
    if '"why"' in answer:
        assert (result.exit_code, result.output.split(":")[0]) == (code, "not ready" if code else "ready\n")
    else:  # as main() shows it
        assert isinstance(result.exception, L3netError) and result.exception.exit_code == code
        assert re.search(r"agent\.sock: its answer .*another release", str(result.exception))


#: Commands that make a table or lines of this node's answer, and where the answer has them.
TABLES = {
    "status": "node",
    "bgp neighbors": "neighbors",
    "bgp summary": "peers",
    "bgp announced": "routes",
    "bgp learned": "routes",
    "policy list": "policies",
    "services": "services",
    "history": "entries",
    "flows": "flows",
    "policy test a/b c/d": "rows",
    "bgp plan": "exports",
    "explain 10.1.1.1": "steps",
}


@pytest.mark.parametrize("command", TABLES)
@pytest.mark.parametrize("found", [None, "7", "[null]", "[{}]", '[{"a": 1}]', "{}", '["x"]'])
def test_no_answer_of_another_shape_is_a_traceback(tmp_path: Path, command: str, found: str | None) -> None:
    answer = f'{{"{TABLES[command]}": {found}}}' if found else "{}"
    result = said(tmp_path, answer, *command.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, L3netError), repr(result.exception)


def said(directory: Path, answer: str, *argv: str) -> Result:
    """What a command says where this node's agent says that."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / AGENT_SOCKET))
        listening.listen()
        listening.settimeout(5)

        def say() -> None:
            with contextlib.suppress(OSError):  # one that asks twice is not answered again
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer.encode() + b"\n")

        thread = threading.Thread(target=say)
        thread.start()
        result = CliRunner().invoke(cli, [*argv, "--run-dir", str(directory)])
        thread.join()
    return result
