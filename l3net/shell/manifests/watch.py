"""Changes to the entries of a directory, by inotify, also when the directory itself is replaced."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from asyncinotify import Inotify, Mask, Watch

from l3net.shell.files.entries import events

_ENTRIES = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.CREATE
    | Mask.DELETE
    | Mask.MODIFY
    | Mask.ATTRIB
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
)
_PARENT = Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE | Mask.ONLYDIR
# To look at events with: plain numbers, since each operation on two of an enumeration makes a third.
_SELF = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT)
_CREATE, _MODIFY, _ATTRIB = int(Mask.CREATE), int(Mask.MODIFY), int(Mask.ATTRIB)
_ARRIVED = int(Mask.MOVED_TO | Mask.DELETE)
_OVERFLOW = int(Mask.Q_OVERFLOW)


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at: these entries, or everything; not at the busy, which are just being written."""

    names: frozenset[str] = frozenset()
    everything: bool = False
    busy: frozenset[str] = frozenset()


class DirectoryWatch:
    """Watches a directory from entering the context on. All times are in seconds.

    An entry counts as changed when its writer closes it, or after `patience` if it never does. A change that
    comes alone is told at once, those of a burst every `quiet`. Where inotify is not to be had (its instances
    are bounded per user) everything is looked at every `poll`.
    """

    def __init__(
        self,
        path: Path,
        *,
        relevant: Callable[[str], bool],
        quiet: float = 0.02,
        rescan: float = 30.0,
        patience: float = 2.0,
        poll: float = 1.0,
    ) -> None:
        # Not resolved: a symbolic link that is turned elsewhere is a change like any other.
        self._path = Path(os.path.abspath(path))  # noqa: PTH100
        self._text = str(self._path)
        self._relevant = relevant
        self._quiet, self._rescan, self._patience, self._poll = quiet, rescan, patience, poll
        self._inotify: Inotify | None = None
        self._watch: Watch | None = None
        self._parent: Watch | None = None
        self._heard = asyncio.Event()
        self._names: set[str] = set()
        self._busy: dict[str, float] = {}
        self._everything = False
        self._told = float("-inf")  # when changes were told last

    async def __aenter__(self) -> DirectoryWatch:
        try:
            self._inotify = Inotify()
        except OSError:
            return self
        os.set_blocking(self._inotify.fd, False)
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._read, self._inotify)
        with suppress(OSError):
            self._parent = self._inotify.add_watch(self._path.parent, _PARENT)
        self._attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()

    async def changes(self) -> Look:
        """Wait until something changed, or until it is time to look at everything."""
        if self._inotify is None:
            await asyncio.sleep(self._poll)
            return Look(everything=True)
        now = asyncio.get_running_loop().time
        rescan = now() + self._rescan
        while not (self._names or self._everything):
            if now() >= rescan:
                self._attach()
                self._everything = True
            await self._wait(min([rescan, *self._busy.values()]) - now())
            self._expire(now())
        if now() < self._told + self._quiet:
            await asyncio.sleep(self._told + self._quiet - now())
        self._told = now()
        look = Look(frozenset(self._names - self._busy.keys()), self._everything, frozenset(self._busy))
        self._names.clear()
        self._everything = False
        return look

    async def _wait(self, seconds: float) -> None:
        """Until anything is heard, or for so long."""
        self._heard.clear()
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._heard.set)
        try:
            await self._heard.wait()
        finally:
            timer.cancel()

    def _read(self, inotify: Inotify) -> None:
        for wd, mask, name in events(inotify.fd):
            self._take(wd, mask, name)
        if self._names or self._everything or self._busy:  # not for a temporary file that is none of ours
            self._heard.set()

    def _take(self, wd: int, mask: int, name: str) -> None:
        if wd < 0 or mask & _OVERFLOW:
            self._everything = True
        elif self._parent is not None and wd == self._parent.wd:
            if name == self._path.name:
                self._attach()
                self._everything = True
        elif self._watch is None or wd != self._watch.wd:
            pass  # the last words of a directory that has been replaced
        elif mask & _SELF:
            self._attach()
            self._everything = True
        elif not self._relevant(name):
            # `..data` of a mounted ConfigMap, through which the entries are links.
            if mask & _CREATE:
                self._everything |= self._leads_elsewhere(name)
            else:
                self._everything |= bool(mask & _ARRIVED)
        elif mask & _MODIFY or (mask & _CREATE and self._being_written(name)):
            self._busy[name] = asyncio.get_running_loop().time() + self._patience
        else:
            if not mask & _ATTRIB:
                self._busy.pop(name, None)
            self._names.add(name)

    def _being_written(self, name: str) -> bool:
        """A file just created is empty until its writer closes it; a link is whole at once."""
        try:
            status = os.lstat(f"{self._text}/{name}")
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 1

    def _leads_elsewhere(self, name: str) -> bool:
        """A link or a directory, and not a file that a writer begins, to rename it when it is whole."""
        try:
            return not stat.S_ISREG(os.lstat(f"{self._text}/{name}").st_mode)
        except OSError:
            return False  # gone already, of which another event tells

    def _expire(self, now: float) -> None:
        for name in [name for name, deadline in self._busy.items() if deadline <= now]:
            del self._busy[name]
            self._names.add(name)

    def _attach(self) -> None:
        """Watch the directory that bears the name now."""
        assert self._inotify is not None  # noqa: S101 - for the type checker
        old = self._watch
        try:
            self._watch = self._inotify.add_watch(self._path, _ENTRIES)
        except OSError:
            self._watch = None
        if old is not None and old is not self._watch:
            with suppress(OSError):
                self._inotify.rm_watch(old)
