"""What a process says of itself."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
from l3net.shell.kernel.process import OwnProcess
own = OwnProcess()
print(own.resident(), own.peak_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


def test_memory_is_that_of_the_process_and_not_of_who_started_it() -> None:
    """The kernel keeps the high-water mark of getrusage(2) over execve(2)."""
    large = "import os, sys; x = b'1' * (200 << 20); "
    starter = f"{large} os.execv(sys.executable, [sys.executable, '-c', {SCRIPT!r}])"
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True)
    now, peak, kept = map(int, done.stdout.split())
    assert kept > 200 << 20, "the control"
    assert 5 << 20 < now <= peak < 100 << 20


LARGE = """
from l3net.shell.kernel.process import OwnProcess, give_large_blocks_back
own = OwnProcess()
{first}
def tables():
    bytearray(8 << 20)  # freed: blocks of this size come from the heap from now on
    many = [bytearray(b"1" * (4 << 20)) for _ in range(15)]
    return [bytearray(b"1" * 100_000) for _ in range(100)]  # above them
kept = tables()
print(own.resident() >> 20)
"""


def test_large_blocks_go_back_although_others_are_kept() -> None:
    """The control is the C library's own way; another than glibc may have no such."""

    def resident(first: str) -> int:
        script = LARGE.format(first=first)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert resident("give_large_blocks_back()") < 40 < resident("")
