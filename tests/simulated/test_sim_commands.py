"""The simulation's commands, as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def typed(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(HERE / command), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("command", "words", "code", "said"),
    [
        ("cluster/cluster.py", ["1", "2"], 0, "1 seeds, 0 bad"),
        ("pods/pods.py", ["1", "3"], 0, "2 seeds, 0 bad"),
        ("pods/pods.py", ["--help"], 0, "shrink 17"),
        ("pods/pods.py", [], 2, "shrink 17"),
        ("pods/pods.py", ["3", "1"], 2, "shrink 17"),
        ("pods/pods.py", ["shrink", "1"], 0, "everything holds"),
        ("worlds.py", ["hunt", "some"], 2, "neither a seed"),
        ("worlds.py", ["hunt", "5-1"], 2, "none between"),
        ("worlds.py", ["hunt", "1", "--jobs", "0"], 2, "--jobs"),
    ],
)
def test_what_is_typed_is_done_or_what_can_be_is_said(
    command: str, words: list[str], code: int, said: str
) -> None:
    done = typed(command, *words)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
