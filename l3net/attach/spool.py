"""DELs that came while no agent served: read, carried out once, removed.

The thin client writes `<boot id>.<CLOCK_BOOTTIME in ns>.<pid>.del`, the frame it would have sent. A lease
assigned after that moment is a newer attachment's and stays; a file of another boot has nothing left to do,
because a reboot releases everything. What is no such file is set aside and kept: it may be a DEL that was
answered with success, so that nothing else would ever tell of the address it was to free.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from l3net.cni.failure import CniError
from l3net.cni.frame import REQUEST_HEADER, Call, decode_call
from l3net.faults import Faults
from l3net.naming import QUARANTINE, SPOOL

log = logging.getLogger(__name__)

#: Files kept in quarantine; beyond that the oldest goes.
MOST_SET_ASIDE: Final = 100

_NAME = re.compile(r"([0-9a-f-]{36})\.([0-9]{1,20})\.[0-9]+\.del", re.ASCII)


@dataclass(frozen=True, slots=True)
class Spooled:
    """One call. `at` is seconds of CLOCK_BOOTTIME."""

    path: Path
    call: Call
    at: float


class Spool:
    """Of one state directory."""

    def __init__(self, state_dir: Path, faults: Faults) -> None:
        self._directory = state_dir / SPOOL
        self._quarantine = state_dir / QUARANTINE
        self._faults = faults
        self._stuck: set[str] = set()  # names of files that could not be removed

    def calls(self, boot: str) -> Iterator[Spooled]:
        """The calls of this boot, oldest first. Raises OSError when the directory cannot be read."""
        try:
            with os.scandir(self._directory) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".del"))
        except FileNotFoundError:
            names = []
        self._stuck.intersection_update(names)
        if not self._stuck:
            self._faults.over(f"emptying {self._directory}")
        with self._faults.each(f"reading {self._directory}") as contained:
            for name in names:
                frame = None
                # no descriptors, perhaps: it is read when there are
                with contained(), contextlib.suppress(FileNotFoundError):
                    frame = (self._directory / name).read_bytes()
                call = self._decoded(name, frame, boot) if frame is not None else None
                if call is not None:
                    yield call

    def _decoded(self, name: str, frame: bytes, boot: str) -> Spooled | None:
        """What is of this boot and can be read; the rest is put where it belongs."""
        path, named = self._directory / name, _NAME.fullmatch(name)
        if named is None or len(frame) < REQUEST_HEADER.size:
            self.set_aside(path, "not what the CNI client writes")
            return None
        if named[1] != boot:
            self.remove(path)
            return None
        try:
            return Spooled(path, decode_call(frame), int(named[2]) / 1e9)
        except CniError as err:
            self.set_aside(path, str(err))
            return None

    def remove(self, path: Path) -> None:
        """It was carried out."""
        try:
            path.unlink(missing_ok=True)
        except OSError as err:  # carried out again, then, which does no harm
            self._stuck.add(path.name)
            self._faults.note(f"emptying {self._directory}", err)

    def set_aside(self, path: Path, why: str) -> None:
        """Move what can never be carried out into the quarantine."""
        try:
            self._quarantine.mkdir(mode=0o700, exist_ok=True)
            path.rename(self._quarantine / path.name)
            kept = sorted(self._quarantine.iterdir(), key=lambda each: each.stat().st_mtime)
            for each in kept[:-MOST_SET_ASIDE]:
                each.unlink(missing_ok=True)
        except OSError as err:
            self._stuck.add(path.name)
            self._faults.note(f"emptying {self._directory}", err)
            return
        log.warning("%s: %s; kept in %s", path.name, why, self._quarantine)

    def quarantined(self) -> int:
        """How many are set aside."""
        try:
            return sum(1 for _ in self._quarantine.iterdir())
        except OSError:
            return 0
