"""The processes that the plugin leaves where no agent runs: which there are, and their end."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path


def helpers_in(directory: Path) -> list[int]:
    """The helpers that hold their files in a directory."""
    found = []
    for path in directory.glob("*.pid"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found += [int(word) for word in file.read().split()]
    return found


def end_helpers(directory: Path) -> None:
    """At once: nothing of theirs has to last."""
    for pid in helpers_in(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
