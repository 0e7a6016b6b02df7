"""DELs that came while no agent served: read, carried out once, removed.

The thin client writes `<boot id>.<CLOCK_BOOTTIME in ns>.<pid>.del`, the frame it would have sent. A lease
assigned after that moment is a newer attachment's and stays; a file of another boot has nothing left to do,
because a reboot releases everything. What is no such file is set aside and kept: it may be a DEL that was
answered with success, so that nothing else would ever tell of the address it was to free.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from l3net.cni.failure import CniError
from l3net.cni.frame import REQUEST_HEADER, Call, decode_call
from l3net.naming import QUARANTINE, SPOOL
from l3net.shell.faults import Faults

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

    def calls(self, boot: str) -> Iterator[Spooled]:
        """The calls of this boot, oldest first. Raises OSError when the directory cannot be read."""
        try:
            with os.scandir(self._directory) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".del"))
        except FileNotFoundError:
            return
        for name in names:
            path = self._directory / name
            try:
                frame = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as err:  # no descriptors, perhaps: it is read when there are
                self._faults.note(f"reading {self._directory}", err)
                continue
            self._faults.over(f"reading {self._directory}")
            named = _NAME.fullmatch(name)
            if named is None or len(frame) < REQUEST_HEADER.size:
                self.set_aside(path, "not what the CNI client writes")
                continue
            if named[1] != boot:
                self.remove(path)
                continue
            try:
                call = decode_call(frame)
            except CniError as err:
                self.set_aside(path, str(err))
                continue
            yield Spooled(path, call, int(named[2]) / 1e9)

    def remove(self, path: Path) -> None:
        """It was carried out."""
        try:
            path.unlink(missing_ok=True)
        except OSError as err:  # carried out again, then, which does no harm
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
            self._faults.note(f"emptying {self._directory}", err)
            return
        log.warning("%s: %s; kept in %s", path.name, why, self._quarantine)

    def quarantined(self) -> int:
        """How many are set aside."""
        try:
            return sum(1 for _ in self._quarantine.iterdir())
        except OSError:
            return 0
