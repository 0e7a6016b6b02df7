"""RUN_DIR's two files about the end of a node: who wants it to leave, and how far it has come.

`leave` is made by whoever wants the node to leave (`l3net node drain`, or `touch` in a host's unit) and
removed when it may return. `drain.json` is the agent's: it outlives the agent, so that a new one goes on
where the last one was, and tells the speaker whether to wait. Both lie in a tmpfs and a reboot ends them.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from l3net.bgp.drain import DrainRecord
from l3net.errors import L3netError, refusal
from l3net.shell.files.whole import write_whole

if TYPE_CHECKING:  # the speaker reads these files too, and does without an event loop
    from l3net.shell.files.entries import Entries

LEAVE: Final = "leave"
#: Seconds between looks whether it is there, where nothing tells that it has come.
LOOK: Final = 0.5
RECORD: Final = "drain.json"
LEFT: Final = "left"
#: Causes after which everything is withdrawn and no session stays.
FINAL: Final = frozenset({"shutdown", "leave"})


class DrainFileError(L3netError):
    """A file of the run directory cannot be written."""


def now() -> float:
    """Seconds since boot, time asleep included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def asked_to_leave(run_dir: Path) -> bool:
    """Whether somebody wants the node to leave."""
    return (run_dir / LEAVE).exists()


def ask_to_leave(run_dir: Path, *, leave: bool) -> None:
    """Want the node to leave, or to return. Raises DrainFileError."""
    path = run_dir / LEAVE
    try:
        if leave:
            run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        else:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise DrainFileError(f"{path}: {refusal(err)}") from err


def read_record(run_dir: Path) -> DrainRecord | None:
    """What the agent wrote during this boot; None if there is nothing, or nothing that can be read."""
    try:
        found = json.loads((run_dir / RECORD).read_text())
        if found["boot"] != boot_id():
            return None
        return DrainRecord(str(found["cause"]), float(found["since"]), str(found["stage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(run_dir: Path, record: DrainRecord | None) -> None:
    """Replace the record whole; None removes it. Raises DrainFileError."""
    path = run_dir / RECORD
    try:
        if record is None:
            path.unlink(missing_ok=True)
            return
        write_whole(path, json.dumps({**asdict(record), "boot": boot_id()}))
    except OSError as err:
        raise DrainFileError(f"{path}: {err.strerror}") from err


class DrainFile:
    """ports.DrainMemory over a run directory. `entries` tells of its files."""

    def __init__(self, run_dir: Path, entries: Entries) -> None:
        self._run_dir = run_dir
        self._leave = str(run_dir / LEAVE)
        self._entries = entries

    def now(self) -> float:
        """Seconds since boot."""
        return now()

    def asked(self) -> bool:
        """Whether somebody wants the node to leave."""
        return os.path.exists(self._leave)  # noqa: PTH110 - looked at twice a second where nothing tells

    async def touched(self) -> None:
        """Until `leave` may have come or gone."""
        await self._entries.moved(LEAVE, LOOK)

    def read(self) -> DrainRecord | None:
        """What was written during this boot."""
        return read_record(self._run_dir)

    def write(self, record: DrainRecord | None) -> None:
        """Replace it whole. Raises DrainFileError."""
        write_record(self._run_dir, record)


def leaving(run_dir: Path) -> bool:
    """Whether the agent is still busy saying goodbye to the peers: the speaker has to go on for that."""
    record = read_record(run_dir)
    if record is None:
        return asked_to_leave(run_dir)
    return record.stage != LEFT and (record.cause in FINAL or asked_to_leave(run_dir))
