"""A disk that a machine boots from, put together in files: no loop device and no machine is needed.

mke2fs takes a directory, sfdisk a file; GRUB goes where the firmware looks for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

#: Where the first partition begins, in sectors of 512 octets: GRUB's core has the gap before it.
START = 2048
#: Of the disk, in GiB. What is not used takes no room on the computer.
SIZE = 10
#: Inodes before are the file system's own.
FIRST_INODE = 11
#: What a BIOS starts, of Debian's grub-pc-bin.
BOOT = Path("/usr/lib/grub/i386-pc/boot.img")
#: Of the file system; whatever is fixed makes the same disk twice.
UUID = "6c336e65-7400-4c33-8000-000000000001"


def run(argv: list[str], **more: object) -> None:
    done = subprocess.run(
        argv, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )  # type: ignore[call-overload]
    succeeded(argv[0], done)


def succeeded(name: str, done: subprocess.CompletedProcess[str]) -> None:
    """Ends the program where a command has failed."""
    if done.returncode:
        raise SystemExit(f"{name} failed ({done.returncode}):\n{done.stdout[-3000:]}")


#: In a memory of its own, since mke2fs takes files in the order in which a directory tells of them.
ASSEMBLE = r"""set -eu
mount -t tmpfs -o size=6G tmpfs "$1"
tar -C "$1" --numeric-owner --xattrs --xattrs-include='*' -xpf "$2"
mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file,^has_journal -E "hash_seed=$4,root_owner=0:0" -U "$4" \
    -L l3net-lab -d "$1" "$3" "$5"
"""


def same_times(part: Path, epoch: str) -> None:
    """Every inode's times of change and access are the build's: mke2fs takes them from the files it reads,
    where nothing can set them. debugfs(8) keeps the checksums right."""
    done = subprocess.run(["dumpe2fs", str(part)], check=True, capture_output=True, text=True)
    told = done.stdout
    (count,) = re.findall(r"^Inode count: +(\d+)$", told, re.MULTILINE)
    free: set[int] = set()
    for ranges in re.findall(r"^  Free inodes: (.+)$", told, re.MULTILINE):
        for each in ranges.split(", "):
            first, _, last = each.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    used = (number for number in range(FIRST_INODE, int(count) + 1) if number not in free)
    script = part.with_suffix(".times")
    fields = [(each, field) for each in used for field in ("ctime", "atime")]
    script.write_text("".join(f"set_inode_field <{each}> {field} @{epoch}\n" for each, field in fields))
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": epoch}  # the disk's own last change
    run(["debugfs", "-w", "-f", str(script), str(part)], env=environment)
    script.unlink()


def _files(archive: Path, part: Path, work: Path, sectors: int, epoch: str) -> None:
    """A file system with the archive's files."""
    place = work / "files"
    place.mkdir()
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": epoch, "SOURCE_DATE_EPOCH": epoch}
    argv = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", ASSEMBLE, "sh"]
    run([*argv, str(place), str(archive), str(part), UUID, f"{sectors // 2}k"], env=environment)
    same_times(part, epoch)


def _empty(to: Path, table: str) -> None:
    """A disk with nothing but a partition table, in the words of sfdisk(8)."""
    with to.open("wb") as made:
        made.truncate(SIZE << 30)
    run(["sfdisk", "-q", str(to)], input=table)


def _put(part: Path, to: Path, sector: int) -> None:
    """Move a partition's content to its place; holes stay holes."""
    run(["dd", f"if={part}", f"of={to}", "bs=1M", f"seek={sector // 2048}", "conv=sparse,notrunc"])
    part.unlink()


def bios(archive: Path, to: Path, work: Path, epoch: str) -> None:
    """A raw disk that a BIOS starts: a partition with the archive's files, and GRUB in the gap before it."""
    part, size = work / "part.ext4", (SIZE << 21) - START
    _files(archive, part, work, size, epoch)
    core = work / "core.img"
    modules = "biosdisk part_msdos ext2 linux normal configfile echo test serial terminal search boot minicmd"
    run(["grub-mkimage", "-O", "i386-pc", "-o", str(core), "-p", "(hd0,msdos1)/boot/grub", *modules.split()])
    if core.stat().st_size > (START - 1) * 512:
        raise SystemExit("GRUB's core does not fit before the partition")
    _empty(to, f"label: dos\nlabel-id: 0x6c336e65\nstart={START}, size={size}, type=83, bootable\n")
    with to.open("r+b") as made:
        made.write(BOOT.read_bytes()[:440])
        made.seek(512)
        made.write(core.read_bytes())
    _put(part, to, START)


#: Of the partition that EFI reads, in sectors.
ESP = 16 << 11
#: Where GRUB begins, before it has found the file system.
EARLY = f"search --fs-uuid --set=root {UUID}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"


def efi(archive: Path, to: Path, work: Path, epoch: str) -> None:
    """A raw disk that an EFI for arm64 starts: GRUB on a partition of its own, with the modules that the
    archive has of it, and the archive's files on another."""
    part, esp, core = work / "part.ext4", work / "esp.fat", work / "BOOTAA64.EFI"
    second = START + ESP
    size = (SIZE << 21) - second - 2048  # the table once more at the end
    _files(archive, part, work, size, epoch)
    modules = (
        "part_gpt part_msdos fat ext2 linux normal configfile echo test search search_fs_uuid boot minicmd"
    )
    early = work / "early.cfg"
    early.write_text(EARLY)
    with tarfile.open(archive) as packed:
        below = "./usr/lib/grub/arm64-efi/"
        found = [each for each in packed if each.name.startswith(below) and each.isfile()]
        packed.extractall(work / "grub", found, filter="data")
    argv = ["grub-mkimage", "-O", "arm64-efi", "-d", str(work / "grub" / below), "-c", str(early)]
    run([*argv, "-o", str(core), "-p", "/boot/grub", *modules.split()])
    os.utime(core, (int(epoch), int(epoch)))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": "UTC"}
    run(["mkfs.fat", "-C", "--invariant", "-n", "L3NET-EFI", "-i", "6c336e65", str(esp), str(ESP // 2)])
    for argv in (
        ["mmd", "-i", str(esp), "::EFI", "::EFI/BOOT"],
        ["mcopy", "-m", "-i", str(esp), str(core), "::EFI/BOOT/"],
    ):
        run(argv, env=environment)
    table = (
        f"label: gpt\nlabel-id: {_identity(0)}\n"
        f"start={START}, size={ESP}, type=uefi, uuid={_identity(1)}, name=EFI\n"
        f"start={second}, size={size}, type=linux, uuid={_identity(2)}, name=l3net-lab\n"
    )
    _empty(to, table)
    _put(esp, to, START)
    _put(part, to, second)


def _identity(number: int) -> str:
    return f"6c336e65-7400-4c33-8001-{number:012x}"
