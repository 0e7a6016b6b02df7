"""SQLite, as Python has it, on a simulated disk: a VFS (sqlite.org/vfs.html) by way of ctypes in the very
library that the module `sqlite3` uses.

    disks = Vfs.the()
    db = disks.connect(disk, "/state/leases.db", timeout=5)

Each file that is opened belongs to who is told by `owner`; of an owner that is dead nothing has an effect.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
import time
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_double, c_int, c_int64, c_void_p
from typing import Any, Protocol

from sim_disk import DiskError, SimDisk, SimFile

NAME = b"l3net-simulated"
OK, BUSY, CANTOPEN, FULL, IOERR, NOTFOUND = 0, 5, 14, 13, 10, 12
IOERR_SHORT_READ, IOERR_WRITE, IOERR_FSYNC = 522, 778, 1034
READONLY = 8
#: Rollback journals and logs: when one is new, the directory is synced with it (unixOpen, UNIXFILE_DIRSYNC).
OPEN_JOURNALS = 0x800 | 0x4000 | 0x80000
OPEN_READWRITE, OPEN_READONLY, OPEN_CREATE, OPEN_DELETE = 2, 1, 4, 8
POWERSAFE_OVERWRITE = 0x1000
NONE, SHARED, RESERVED, PENDING, EXCLUSIVE = range(5)
SHM_UNLOCK, SHM_SHARED = 1, 4


class Owner(Protocol):
    """Who has a file open."""

    @property
    def dead(self) -> bool: ...


class _Methods(Structure):
    _fields_ = [
        ("version", c_int),
        *((name, c_void_p) for name in (
            "close", "read", "write", "truncate", "sync", "size", "lock", "unlock", "reserved", "control",
            "sector", "characteristics", "shm_map", "shm_lock", "shm_barrier", "shm_unmap",
        )),
    ]  # fmt: skip


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("path_size", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        *((name, c_void_p) for name in (
            "open", "delete", "access", "full_path", "dl_open", "dl_error", "dl_sym", "dl_close",
            "randomness", "sleep", "current_time", "last_error", "current_time64",
        )),
    ]  # fmt: skip


class _File(Structure):
    _fields_ = [("methods", c_void_p), ("number", c_int64)]


class Shared:
    """Of all who have one file open: locks, and the index of the log that they share."""

    def __init__(self, file: SimFile) -> None:
        self.file = file
        self.handles: list[Handle] = []
        self.regions: list[ctypes.Array[Any]] = []

    def others(self, one: Handle) -> list[Handle]:
        return [each for each in self.handles if each is not one and not each.dead]


class Handle:
    """One opening of a file."""

    def __init__(self, disk: SimDisk, path: str, shared: Shared, owner: Owner | None, doomed: bool) -> None:
        self.disk, self.path, self.shared, self.owner, self.doomed = disk, path, shared, owner, doomed
        self.level = NONE
        self.mapped = self.names = False
        self.shm: dict[int, bool] = {}  # slots; whether exclusively

    @property
    def dead(self) -> bool:
        return self.owner is not None and self.owner.dead


class Vfs:
    """There is one; `disks` holds who opens by which name."""

    _made: Vfs | None = None

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_sqlite3.__file__)  # finds what that is linked with
        self.disks: dict[str, tuple[SimDisk, Callable[[], Owner | None]]] = {}
        self._shared: dict[tuple[str, str], Shared] = {}
        self._handles: dict[int, Handle] = {}
        self._kept: list[Any] = []
        self._opened = 0
        self.sleep: Callable[[float], None] = lambda _seconds: None
        methods = {
            "close": (self._close, ()),
            "read": (self._read, (c_void_p, c_int, c_int64)),
            "write": (self._write, (c_void_p, c_int, c_int64)),
            "truncate": (self._truncate, (c_int64,)),
            "sync": (self._sync, (c_int,)),
            "size": (self._size, (POINTER(c_int64),)),
            "lock": (self._lock, (c_int,)),
            "unlock": (self._unlock, (c_int,)),
            "reserved": (self._reserved, (POINTER(c_int),)),
            "control": (lambda _h, _op, _arg: NOTFOUND, (c_int, c_void_p)),
            "sector": (lambda _h: 4096, ()),
            "characteristics": (lambda _h: POWERSAFE_OVERWRITE, ()),
            "shm_map": (self._shm_map, (c_int, c_int, c_int, POINTER(c_void_p))),
            "shm_lock": (self._shm_lock, (c_int, c_int, c_int)),
            "shm_unmap": (self._shm_unmap, (c_int,)),
        }
        self._methods = _Methods(version=2)
        for name, (work, arguments) in methods.items():
            setattr(self._methods, name, self._of_file(work, arguments))
        barrier = CFUNCTYPE(None, c_void_p)(lambda _file: None)
        self._kept.append(barrier)
        self._methods.shm_barrier = ctypes.cast(barrier, c_void_p)
        self._register()

    @classmethod
    def the(cls) -> Vfs:
        if cls._made is None:
            cls._made = cls()
        return cls._made

    def _register(self) -> None:
        vfs = _Vfs(version=2, file_size=ctypes.sizeof(_File), path_size=512, name=NAME)
        plain = {
            "open": (self._open, (c_char_p, c_void_p, c_int, POINTER(c_int))),
            "delete": (self._delete, (c_char_p, c_int)),
            "access": (self._access, (c_char_p, c_int, POINTER(c_int))),
            "full_path": (self._full_path, (c_char_p, c_int, c_void_p)),
            "randomness": (self._randomness, (c_int, c_void_p)),
            "sleep": (self._sleep, (c_int,)),
            "current_time": (self._time, (POINTER(c_double),)),
            "last_error": (lambda _size, _text: OK, (c_int, c_void_p)),
            "current_time64": (self._time64, (POINTER(c_int64),)),
        }
        for name, (work, arguments) in plain.items():
            made = CFUNCTYPE(c_int, c_void_p, *arguments)(_guarded(work))
            self._kept.append(made)
            setattr(vfs, name, ctypes.cast(made, c_void_p))
        self._kept.append(vfs)
        if self._library.sqlite3_vfs_register(byref(vfs), 0) != OK:
            raise RuntimeError("SQLite takes no VFS")

    def connect(
        self, disk: SimDisk, owner: Callable[[], Owner | None], path: object, **options: Any
    ) -> sqlite3.Connection:
        """As sqlite3.connect."""
        self._opened += 1
        directory = f"/{id(disk):x}"  # never looked at
        self.disks[directory] = disk, owner
        return sqlite3.connect(f"file:{directory}{path}?vfs={NAME.decode()}", uri=True, **options)

    def forget(self, disk: SimDisk) -> None:
        """Nobody has anything of it open any more."""
        directory = f"/{id(disk):x}"
        self.disks.pop(directory, None)
        for key in [key for key in self._shared if key[0] == directory]:
            del self._shared[key]

    # --- of the file system ------------------------------------------------------------------------------

    def _placed(self, path: bytes) -> tuple[SimDisk, Callable[[], Owner | None], str, str]:
        _, directory, rest = path.decode().split("/", 2)
        disk, owner = self.disks[f"/{directory}"]
        return disk, owner, f"/{rest}", f"/{directory}"

    def _open(self, _vfs: int, path: bytes | None, file: int, flags: int, out: Any) -> int:
        opened = _File.from_address(file)
        opened.methods = None
        if path is None:
            return CANTOPEN  # a temporary one, which the store has no need of
        disk, owner, name, directory = self._placed(path)
        new = name not in disk.files
        if new:
            if not flags & OPEN_CREATE:
                return CANTOPEN
            try:
                disk.create(name)
            except DiskError:
                return CANTOPEN
        if disk.read_only and flags & OPEN_READWRITE:
            flags = flags & ~(OPEN_READWRITE | OPEN_CREATE) | OPEN_READONLY
        found = disk.files[name]
        disk.opened(found)
        shared = self._shared.get((directory, name))
        if shared is None or shared.file is not found:
            shared = self._shared[directory, name] = Shared(found)
        handle = Handle(disk, name, shared, owner(), bool(flags & OPEN_DELETE))
        handle.names = new and bool(flags & OPEN_JOURNALS)
        shared.handles.append(handle)
        number = self._opened = self._opened + 1
        self._handles[number] = handle
        opened.number, opened.methods = number, ctypes.addressof(self._methods)
        if out:
            out[0] = flags
        return OK

    def _delete(self, _vfs: int, path: bytes, durable: int) -> int:
        disk, owner, name, _ = self._placed(path)
        held = owner()
        if held is not None and held.dead:
            return IOERR
        try:
            return OK if disk.remove(name, durable=bool(durable)) else 5898  # SQLITE_IOERR_DELETE_NOENT
        except DiskError:
            return IOERR

    def _access(self, _vfs: int, path: bytes, flags: int, out: Any) -> int:
        disk, _, name, _ = self._placed(path)
        out[0] = int(name in disk.files and not (flags == 1 and disk.read_only))
        return OK

    def _full_path(self, _vfs: int, path: bytes, size: int, out: int) -> int:
        if len(path) + 1 > size:
            return CANTOPEN
        ctypes.memmove(out, path + b"\0", len(path) + 1)
        return OK

    def _randomness(self, _vfs: int, size: int, out: int) -> int:
        self._opened += 1
        seed = self._opened.to_bytes(8, "little")
        ctypes.memmove(out, (seed * (size // 8 + 1))[:size], size)
        return size

    def _sleep(self, _vfs: int, microseconds: int) -> int:
        self.sleep(microseconds / 1e6)
        return microseconds

    def _time(self, _vfs: int, out: Any) -> int:
        out[0] = 2440587.5 + time.time() / 86400
        return OK

    def _time64(self, _vfs: int, out: Any) -> int:
        out[0] = int(2440587.5 * 86400000 + time.time() * 1000)
        return OK

    # --- of a file ---------------------------------------------------------------------------------------

    def _of_file(self, work: Callable[..., int], arguments: tuple[Any, ...]) -> Any:
        handles, close = self._handles, work == self._close

        def called(file: int, *given: Any) -> int:
            number = c_int64.from_address(file + 8).value
            handle = handles.pop(number) if close else handles[number]
            if handle.dead and not close:
                return IOERR
            return work(handle, *given)

        made = CFUNCTYPE(c_int, c_void_p, *arguments)(_guarded(called))
        self._kept.append(made)
        return ctypes.cast(made, c_void_p)

    def _close(self, handle: Handle) -> int:
        handle.shared.handles.remove(handle)
        if handle.doomed and not handle.dead:
            handle.disk.remove(handle.path, durable=False)
        return OK

    def _read(self, handle: Handle, out: int, size: int, offset: int) -> int:
        found = bytes(handle.shared.file.content[offset : offset + size])
        if len(found) == size:
            ctypes.memmove(out, found, size)
            return OK
        ctypes.memmove(out, found + bytes(size - len(found)), size)
        return IOERR_SHORT_READ

    def _write(self, handle: Handle, octets: int, size: int, offset: int) -> int:
        try:
            handle.disk.write(handle.shared.file, offset, ctypes.string_at(octets, size))
        except DiskError as err:
            return FULL if str(err) == "full" else IOERR_WRITE
        return OK

    def _truncate(self, handle: Handle, size: int) -> int:
        try:
            handle.disk.truncate(handle.shared.file, size)
        except DiskError:
            return IOERR
        return OK

    def _sync(self, handle: Handle, _flags: int) -> int:
        try:
            handle.disk.sync(handle.shared.file)
            if handle.names:
                handle.disk.sync_names()
                handle.names = False
        except DiskError:
            return IOERR_FSYNC
        return IOERR if handle.dead else OK

    def _size(self, handle: Handle, out: Any) -> int:
        out[0] = len(handle.shared.file.content)
        return OK

    def _lock(self, handle: Handle, level: int) -> int:
        others = max((each.level for each in handle.shared.others(handle)), default=NONE)
        if level == SHARED and others >= PENDING:
            return BUSY
        if level == RESERVED and others >= RESERVED:
            return BUSY
        if level == EXCLUSIVE and others >= SHARED:
            return BUSY
        handle.level = max(handle.level, level)
        return OK

    def _unlock(self, handle: Handle, level: int) -> int:
        handle.level = min(handle.level, level)
        return OK

    def _reserved(self, handle: Handle, out: Any) -> int:
        out[0] = int(any(each.level >= RESERVED for each in handle.shared.others(handle)))
        return OK

    # --- the index that processes share ------------------------------------------------------------------

    def _shm_map(self, handle: Handle, region: int, size: int, extend: int, out: Any) -> int:
        shared = handle.shared
        if not handle.mapped:
            if not any(each.mapped for each in shared.others(handle)):
                self._kept.append(shared.regions)  # of who died with it
                shared.regions = []  # the first one begins it anew
            handle.mapped = True
        while len(shared.regions) <= region:
            if not extend:
                out[0] = None
                return OK
            shared.regions.append(ctypes.create_string_buffer(size))
        out[0] = ctypes.addressof(shared.regions[region])
        return OK

    def _shm_lock(self, handle: Handle, offset: int, count: int, flags: int) -> int:
        slots = range(offset, offset + count)
        if flags & SHM_UNLOCK:
            for slot in slots:
                handle.shm.pop(slot, None)
            return OK
        alone = not flags & SHM_SHARED
        for other in handle.shared.others(handle):
            if any(slot in other.shm and (alone or other.shm[slot]) for slot in slots):
                return BUSY
        handle.shm.update(dict.fromkeys(slots, alone))
        return OK

    def _shm_unmap(self, handle: Handle, _delete: int) -> int:
        handle.mapped = False
        handle.shm.clear()
        return OK


def _guarded(work: Callable[..., int]) -> Callable[..., int]:
    """Nothing is raised through SQLite: who is killed amid a call hears of it when he waits next."""

    def called(*given: Any) -> int:
        try:
            return work(*given)
        except BaseException:
            return IOERR

    return called
