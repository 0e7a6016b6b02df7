"""The disk of a box: what of it can be made alike twice without a whole build."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from labbox import same_number
from labdisk import UUID, same_times

EPOCH = "1700000000"


def made(directory: Path, read: float) -> Path:
    """A file system with a directory's files, which somebody has read at that time."""
    source, part = directory / "files", directory / "part.ext4"
    (source / "below").mkdir(parents=True)
    for name in ("a", *(f"below/{number}" for number in range(500))):
        (source / name).write_text(name)
    for each in (*source.rglob("*"), source):
        os.utime(each, (read, 1_600_000_000))
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", f"hash_seed={UUID}", "-U", UUID]
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": EPOCH}
    subprocess.run([*argv, "-d", str(source), str(part), "8M"], check=True, env=environment)
    return part


def test_when_files_were_read_is_not_in_the_disk(tmp_path: Path) -> None:
    """mke2fs takes it from them. The control: without the last step two builds differ."""
    first, second = made(tmp_path / "1", 1_650_000_000), made(tmp_path / "2", 1_660_000_000)
    assert first.read_bytes() != second.read_bytes()
    for part in (first, second):
        time.sleep(1.1)  # the clock of a disk has seconds
        same_times(part, EPOCH)
        subprocess.run(["e2fsck", "-fn", str(part)], check=True, capture_output=True)
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()


def test_the_number_of_a_virtual_disk_is_fixed(tmp_path: Path) -> None:
    """As qemu-img writes it; whatever else is in the file stays."""
    head, tail = b"KDMV".ljust(512, b"\1"), b"\2" * 512
    made = []
    for number in (b"5d8b08e7", b"76c3f02"):
        text = b"# Disk DescriptorFile\nversion=1\nCID=" + number + b"\nparentCID=ffffffff\n"
        image = tmp_path / number.decode()
        image.write_bytes(head + text.ljust(20 * 512, b"\0") + tail)
        same_number(image)
        made.append(image.read_bytes())
    assert made[0] == made[1] and made[0].startswith(head) and made[0].endswith(tail)
    assert len(made[0]) == 22 * 512 and b"\nCID=6c336e65\nparentCID=ffffffff\n\0" in made[0]
