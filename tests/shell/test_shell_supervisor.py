"""The speaker's supervisor: a stop ends ExaBGP whenever it comes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from l3net.shell.speaker import supervisor
from l3net.shell.speaker.supervisor import Supervisor


def test_a_stop_while_exabgp_is_being_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the supervisor waits for a child that nobody has told to end."""
    made: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def stop_meanwhile(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        one._end()
        made.append(start(*arguments, **options))
        return made[0]

    monkeypatch.setattr(supervisor, "exabgp_argv", lambda _config: ["sleep", "60"])
    monkeypatch.setattr(supervisor.subprocess, "Popen", stop_meanwhile)
    one = Supervisor(tmp_path)
    running = threading.Thread(target=one._run_exabgp, daemon=True)
    running.start()
    running.join(20)
    ended = not running.is_alive()
    for child in made:
        child.kill()
        child.wait()
    assert ended


def test_it_does_without_an_event_loop() -> None:
    """Of a process that waits all the time, asyncio would be a sixth of the memory."""
    script = (
        "import sys, l3net.cli.speaker, l3net.shell.speaker.supervisor; sys.exit('asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
