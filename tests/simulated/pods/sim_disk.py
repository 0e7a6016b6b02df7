"""A disk in memory that fails, fills, turns read-only and loses power: what was written and not synced may be
lost in any part, sector by sector, as a file system may have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

#: Octets that are written whole or not at all.
SECTOR = 512


class DiskError(Exception):
    """What the disk answers: `full`, `read-only` or `io`."""


@dataclass(slots=True)
class Change:
    """A write that is not on the platter yet; without octets a truncation to `offset`."""

    offset: int
    octets: bytes | None

    def on(self, content: bytearray) -> None:
        if self.octets is None:
            del content[self.offset :]
            return
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.octets)] = self.octets

    def sectors(self) -> list[Change]:
        """What of it is there or not by itself."""
        if self.octets is None:
            return [self]
        found, at = [], 0
        while at < len(self.octets):
            step = SECTOR - (self.offset + at) % SECTOR
            found.append(Change(self.offset + at, self.octets[at : at + step]))
            at += step
        return found


@dataclass(slots=True)
class SimFile:
    """`content` is what processes see, `durable` what the platter has, `changes` what lies between."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    named: bool = False  # the directory on the platter has it


def _nothing(_what: str) -> None:
    pass


class SimDisk:
    """Files by path. `step` is called before each change, and may raise, wait, or cut the power."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.files: dict[str, SimFile] = {}
        self.removed: dict[str, SimFile] = {}  # of whose removal the platter knows nothing
        self.step: Callable[[str], None] = _nothing
        self.full = self.read_only = False
        self.failing = 0.0  # how likely a sync fails
        self.writes = self.syncs = 0

    def names(self, directory: str) -> list[str]:
        return [path for path in self.files if path.startswith(f"{directory}/")]

    def create(self, path: str) -> SimFile:
        if self.read_only:
            raise DiskError("read-only")
        self.step("create")
        return self.files.setdefault(path, SimFile())

    def _change(self, file: SimFile, change: Change, what: str) -> None:
        self.step(what)
        if self.read_only:
            raise DiskError("read-only")
        self.writes += 1
        change.on(file.content)
        file.changes.append(change)

    def write(self, file: SimFile, offset: int, octets: bytes) -> None:
        """Raises DiskError."""
        if self.full and offset + len(octets) > len(file.content):
            self.step("write")
            raise DiskError("full")
        self._change(file, Change(offset, octets), "write")

    def truncate(self, file: SimFile, size: int) -> None:
        """Raises DiskError."""
        if size != len(file.content):
            if size > len(file.content):
                self.write(file, len(file.content), bytes(size - len(file.content)))
            else:
                self._change(file, Change(size, None), "truncate")

    def sync(self, file: SimFile) -> None:
        """Raises DiskError; then what was written since the last time may be on the platter or not, and no
        later sync brings it there (as Linux has it: the pages count as clean)."""
        self.step("sync")
        if self.failing and self.random.random() < self.failing:
            self._keep_some(file)
            file.changes.clear()
            raise DiskError("io")
        self.syncs += 1
        for change in file.changes:
            change.on(file.durable)
        file.changes.clear()
        file.named = True

    def opened(self, file: SimFile) -> None:
        """Who opens a file reads what a failed sync has left in memory, and takes it for good. On Linux it
        may never reach the platter, which nobody who opens it can tell or mend; so here it does with the
        next sync."""
        probe = bytearray(file.durable)
        for change in file.changes:
            change.on(probe)
        if probe != file.content:
            file.changes.append(Change(0, bytes(file.content)))
            file.changes.append(Change(len(file.content), None))

    def sync_names(self) -> None:
        """The directory: which files there are."""
        self.step("sync")
        for file in self.files.values():
            file.named = True
        self.removed.clear()

    def remove(self, path: str, *, durable: bool) -> bool:
        """Whether there was one."""
        if path not in self.files:
            return False
        if self.read_only:
            raise DiskError("read-only")
        self.step("remove")
        file = self.files.pop(path)
        if file.named and not durable:
            self.removed[path] = file
        else:
            self.removed.pop(path, None)
        return True

    @property
    def settled(self) -> bool:
        """Whether all that was written is on the platter."""
        return not any(file.changes or not file.named for file in self.files.values())

    # --- power -------------------------------------------------------------------------------------------

    def _keep_some(self, file: SimFile) -> None:
        """Bring some of what was not synced to the platter: nothing, all, a beginning, or any sectors."""
        how = self.random.choice(("none", "all", "prefix", "any"))
        sectors = [each for change in file.changes for each in change.sectors()]
        if how == "none":
            return
        if how == "prefix":
            sectors = sectors[: self.random.randint(0, len(sectors))]
        chance = self.random.random()
        for each in sectors:
            if how != "any" or self.random.random() < chance:
                each.on(file.durable)

    def lose_power(self) -> None:
        """What is on the platter is all there is from now on."""
        for path, file in list(self.removed.items()):
            if path not in self.files and self.random.random() < 0.5:
                self.files[path] = file
        self.removed.clear()
        for path, file in list(self.files.items()):
            synced = file.named
            self._keep_some(file)
            file.changes.clear()
            if not synced and self.random.random() < 0.5:
                del self.files[path]
            else:
                file.content[:] = file.durable
                file.named = True

    def platter(self) -> SimDisk:
        """A disk that holds what this one would if the power were lost now and nothing else were kept."""
        found = SimDisk(Random(0))
        for path, file in self.files.items():
            if file.named:
                found.files[path] = SimFile(bytearray(file.durable), bytearray(file.durable), [], True)
        return found

    def flush(self) -> None:
        """As time and the kernel do: all of it is on the platter some seconds later."""
        for file in self.files.values():
            for change in file.changes:
                change.on(file.durable)
            file.changes.clear()
            file.named = True
        self.removed.clear()
