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
