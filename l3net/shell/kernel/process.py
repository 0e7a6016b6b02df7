"""What the kernel says of this process: memory and time."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
#: A dict of some 6,000 entries.
_LARGE: Final = 256 * 1024


def give_large_blocks_back() -> None:
    """Have the allocator return each large block, as the table of a dict, when it is freed. By itself glibc
    takes them from the heap after the first that was freed, and keeps what lies below another (mallopt(3),
    M_MMAP_THRESHOLD). Other C libraries are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


class OwnProcess:
    """ports.Process. The uptime counts from when this is made."""

    def __init__(self) -> None:
        self._started, self._started_at = time.monotonic(), time.time()

    @property
    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def peak_memory(self) -> int:
        """The most that was resident at once, in bytes (proc_pid_status(5)). What getrusage(2) tells is at
        least that of whoever started the process."""
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - as below
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), 0)

    def resident(self) -> int:
        """Resident now, in bytes (proc_pid_statm(5))."""
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - read often
            return int(file.read().split()[1]) * resource.getpagesize()

    def cpu_seconds(self) -> float:
        """Used by all threads, in user and kernel mode."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def started_at(self) -> float:
        """In seconds since 1970, as the clock of the node was then."""
        return self._started_at

    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started
