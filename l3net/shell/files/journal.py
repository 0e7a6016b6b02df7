"""Lines for systemd's journal, which has times of its own and takes priorities (sd-daemon(3))."""

from __future__ import annotations

import logging
import os
from typing import Final

#: Level of Python's logging, at least -> priority of syslog.
PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
DEBUG: Final = 7


def is_journal(descriptor: int) -> bool:
    """Whether what is written to it goes to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    told = os.environ.get("JOURNAL_STREAM", "")
    if not told:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def prefixed(text: str, level: int) -> str:
    """Each line of a text with the priority of a level."""
    priority = next((number for least, number in PRIORITIES if level >= least), DEBUG)
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
