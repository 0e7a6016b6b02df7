"""Files that are replaced whole: who reads one sees the old text or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def written_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Replace a file by what comes in parts; it is on the disk before it takes the old one's place. Raises
    OSError, the old file staying. What is no file, as a device, is written to, and a link is followed."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as target:
            target.writelines(chunks)
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_whole(path: Path, text: str, *, lasting: bool = False) -> None:
    """Replace a file in a directory that is there. Raises OSError, the old file staying.

    `lasting`: it is on the disk before it takes the old one's place, for what outlives a reboot.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)
