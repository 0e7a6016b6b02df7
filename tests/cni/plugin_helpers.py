"""The processes that the plugin leaves where no agent runs: which there are, and their end."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def _told(file: TextIO) -> int:
    """The process that holds a file; it says so soon after it does."""
    until = time.monotonic() + 30
    while not (said := file.read().strip()):
        assert time.monotonic() < until, "a helper does not say which process it is"
        time.sleep(0.01)
        file.seek(0)
    return int(said)


def helpers_in(directory: Path) -> list[int]:
    """The helpers that hold their files in a directory."""
    found = []
    for path in directory.glob("*.pid"):
        try:
            file = path.open()
        except FileNotFoundError:
            continue  # it ends just now
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(_told(file))
    return found


def end_helpers(directory: Path) -> None:
    """At once: nothing of theirs has to last."""
    for pid in helpers_in(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
