"""A box without a whole build: what of its disk can be made alike twice, and what stops a build at once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import foreign
import labbox
from labbox import same_number
from labdisk import UUID, same_times

TREE = Path(__file__).parents[2]
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


# --- what stops a build ------------------------------------------------------------------------------------


def program(directory: Path, name: str, text: str) -> dict[str, str]:
    """An environment in which a program does something else."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", ["unshare", "mount"])
def test_a_kernel_that_refuses_is_told_of(tmp_path: Path, name: str) -> None:
    """No user namespaces; no binfmt_misc in one."""
    environment = program(tmp_path, name, f"echo {name}: permission denied >&2; exit 32")
    why = foreign.refused(environment)
    assert f"{name}: permission denied" in why and "Linux 6.7" in why


def test_without_root_no_user_is_mapped() -> None:
    """Its child ends with it."""
    text = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import foreign\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(foreign.refused(dict(os.environ)))"
    )
    argv = [sys.executable, "-B", "-c", text, str(TREE / "tools")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "users of a user namespace: Operation not permitted" in done.stdout, done.stderr


@pytest.mark.skipif(bool(foreign.needed()), reason="qemu-user-static and arch-test come with a box for arm64")
def test_programs_for_arm64_run() -> None:
    assert foreign.refused(os.environ) == ""
    assert foreign.run(["sh", "-c", "echo said; exit 7"], os.environ).stdout == "said\n"


def test_programs_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(labbox, "BOOT", Path("/nonexistent/boot.img"))
    assert {"git", "mmdebstrap", "/nonexistent/boot.img"} <= set(labbox.needed(labbox.AMD64))
    assert {"arch-test", "mcopy"} <= set(labbox.needed(labbox.ARM64))


def make(*given: str, **settings: str) -> subprocess.CompletedProcess[str]:
    argv = ["make", "-f", str(TREE / "Makefile"), *given]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    env = {**outer, **settings}
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=env)


@pytest.mark.parametrize("architecture", ["", "foo", "aarch64"])
def test_an_architecture_that_has_no_box(architecture: str) -> None:
    """Before anything is installed or built for it."""
    done = make("-n", "vagrant-box", f"ARCH={architecture}")
    assert done.returncode == 2 and "boxes are made for amd64 or arm64" in done.stderr and not done.stdout
    assert make("-n", "help", f"ARCH={architecture}").returncode == 0


def test_what_ssh_needs_stays_when_a_machine_does_not_run(tmp_path: Path) -> None:
    there = tmp_path / "vagrant/.ssh-config"
    there.parent.mkdir()
    there.write_text("Host n1\n")
    path = program(tmp_path / "bin", "vagrant", "echo Host n2; exit 1")["PATH"]
    done = make("-C", str(tmp_path), "vagrant-ssh", PATH=path)
    assert done.returncode == 2 and "Every machine has to run" in done.stderr
    assert there.read_text() == "Host n1\n"
    path = program(tmp_path / "bin", "vagrant", "echo Host n2")["PATH"]
    assert make("-C", str(tmp_path), "vagrant-ssh", PATH=path).returncode == 0
    assert there.read_text() == "Host n2\n" and len(list(there.parent.iterdir())) == 1
