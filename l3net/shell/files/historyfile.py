"""RUN_DIR/history.jsonl: what was decided on this node, a line each, and the file before it.

Lines are appended; at a size the file becomes history.old.jsonl, so that both are bounded. An agent that is
killed while it writes leaves at most one torn line, which is passed over.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from l3net.errors import L3netError
from l3net.history.entry import Entry, entry_of

FILE: Final = "history.jsonl"
OLD: Final = "history.old.jsonl"
#: Octets of a file after which the next one begins.
LONGEST: Final = 2 << 20


class HistoryFileError(L3netError):
    """It cannot be written."""


class HistoryFile:
    """ports.HistoryMemory over a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def read(self) -> list[Entry]:
        """All that can be read, the oldest first."""
        return [entry for name in (OLD, FILE) for entry in _read(self._run_dir / name)]

    def append(self, entries: Iterable[Entry]) -> None:
        """Raises HistoryFileError."""
        path = self._run_dir / FILE
        text = "".join(json.dumps(entry.row(), separators=(",", ":")) + "\n" for entry in entries)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and not _ends_whole(path, size)
                os.write(descriptor, ("\n" * torn + text).encode())
            finally:
                os.close(descriptor)
            if size + len(text) > LONGEST:
                path.replace(self._run_dir / OLD)
        except OSError as err:
            raise HistoryFileError(f"{path}: {err.strerror}") from err


def _ends_whole(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield entry_of(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
