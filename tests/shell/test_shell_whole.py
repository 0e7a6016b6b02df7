"""Files that are replaced whole, and what is no file and must not be."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from l3net.shell.files.whole import written_whole


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to(file)

    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        written_whole(file, breaks())
    assert file.read_bytes() == b"old" and sorted(each.name for each in tmp_path.iterdir()) == [
        "file",
        "link",
    ]
    written_whole(link, [b"ne", b"w"])
    assert file.read_bytes() == b"new" and link.is_symlink()


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """A rename over a device takes the device away from everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    written_whole(pipe, [b"a", b"b"])
    reader.join(10)
    assert read == [b"ab"] and pipe.is_fifo()
    with pytest.raises(IsADirectoryError):
        written_whole(tmp_path, [b"x"])
