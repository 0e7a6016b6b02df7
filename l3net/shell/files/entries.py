"""Which entries of a directory come and go, by inotify: for those who wait for a file or a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask

from l3net.retry import until_beat

_MASK = (
    Mask.CREATE
    | Mask.DELETE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
)
_OVER = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT | Mask.Q_OVERFLOW)
#: struct inotify_event (inotify(7)): watch, mask, cookie, and how long the name behind it is.
_EVENT: Final = struct.Struct("iIII")
#: Octets read at a time, and those of an event with the longest name.
_CHUNK: Final = 1 << 14
_LARGEST: Final = _EVENT.size + 256
#: Seconds after which a waiter looks again, though nothing was told.
LONGEST: Final = 10.0


def events(fd: int) -> Iterator[tuple[int, int, str]]:
    """Watch, mask and name of each event that waits to be read from inotify.

    Not as the library does it, which makes a path, a flag and a reference of each: in the way of every
    change, a millisecond of a process that has slept.
    """
    more = True
    while more:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            wd, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            yield wd, mask, os.fsdecode(data[at - length : at].rstrip(b"\0")) if length else ""
        more = len(data) > _CHUNK - _LARGEST


class Entries:
    """Tells of one directory, in one event loop. It watches from the first `moved` on.

    A directory that is not there, or has been replaced, is watched again as soon as that is possible. Until
    then, and where inotify is not to be had (its instances are bounded per user), waiters look in turns.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._inotify: Inotify | None = None
        self._waiting: dict[asyncio.Future[None], str] = {}

    async def moved(self, name: str, poll: float) -> None:
        """Wait until an entry of this name may have come or gone, and no longer than `LONGEST`.

        Without inotify, wait for the next beat of `poll` seconds. Whoever looks before each call, and does
        not wait in between, misses nothing.
        """
        loop = asyncio.get_running_loop()
        if self._inotify is None and not self._watch(loop):
            await asyncio.sleep(until_beat(loop.time(), poll))
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[waiter] = name
        timer = loop.call_later(until_beat(loop.time(), LONGEST), _done, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.pop(waiter, None)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the directory is watched from now on."""
        try:
            inotify = Inotify()
        except OSError:
            return False
        try:
            inotify.add_watch(self.directory, _MASK)
        except OSError:
            inotify.close()
            return False
        loop.add_reader(inotify.fd, self._read, inotify)
        self._inotify = inotify
        # What happened since the caller looked was not told.
        loop.call_soon(self._tell, None)
        return True

    def _read(self, inotify: Inotify) -> None:
        for _, mask, name in events(inotify.fd):
            if mask & _OVER:  # the name leads to another directory, or to none
                self._unwatch(inotify)
                return
            self._tell(name)

    def _unwatch(self, inotify: Inotify) -> None:
        asyncio.get_running_loop().remove_reader(inotify.fd)
        inotify.close()
        self._inotify = None
        self._tell(None)

    def _tell(self, name: str | None) -> None:
        """Wake those who wait for an entry of this name; None: all."""
        for waiter, its in self._waiting.items():
            if name is None or name == its:
                _done(waiter)


def _done(waiter: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        waiter.set_result(None)
