"""DELs that came while no agent served: read, carried out once, removed.

The thin client writes `<boot id>.<CLOCK_BOOTTIME in ns>.<pid>.del`, the frame it would have sent. A lease
assigned after that moment is a newer attachment's and stays; a file of another boot has nothing left to do,
because a reboot releases everything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from l3net.cni.failure import CniError
from l3net.cni.frame import REQUEST_HEADER, Call, decode_call


@dataclass(frozen=True, slots=True)
class Spooled:
    """One call. `at` is seconds of CLOCK_BOOTTIME."""

    path: Path
    call: Call
    at: float


def spooled(directory: Path, boot: str) -> Iterator[Spooled]:
    """The calls of this boot, oldest first. Files that cannot be read or are not of this boot are removed."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.name.endswith(".del"))
    except OSError:
        return
    for name in names:
        path = directory / name
        parts = name.split(".")
        try:
            frame = path.read_bytes()
            if len(parts) != 4 or parts[0] != boot or len(frame) < REQUEST_HEADER.size:
                raise ValueError(name)
            yield Spooled(path, decode_call(frame), int(parts[1]) / 1e9)
        except (OSError, ValueError, CniError):
            remove(path)


def remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
