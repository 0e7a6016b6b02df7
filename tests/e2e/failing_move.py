"""`l3net ...` with one step of a move that fails: `python failing_move.py STEP N raise|kill|gone ARGUMENTS`.

The N-th call of takeover's function STEP raises KernelError, or SIGKILL ends the process in its place. With
`gone` it is carried out after its pod has ended.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import Any

from l3net.cli.main import main
from l3net.errors import KernelError
from l3net.shell.kernel import takeover


def fail_at(step: str, count: int, how: str) -> None:
    true = getattr(takeover, step)
    calls = 0

    def failing(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != count:
            return true(*given)
        if how == "gone":
            subprocess.run(["ip", "link", "delete", "dev", given[1].host_ifname], check=True)
            return true(*given)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KernelError(f"{step}, made to fail", errno.EIO)

    setattr(takeover, step, failing)


if __name__ == "__main__":
    fail_at(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.argv[1:4] = []
    main()
