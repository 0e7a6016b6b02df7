"""Makes of a process that a runtime started one that outlives the call and holds nothing of the runtime's."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: Where hierarchies of control groups are mounted: that of version 2, alone or beside those of version 1, and
#: the one by which systemd knew before what belongs to a unit (cgroups(7)).
_GROUPS = (
    ("0::", ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")),
    (":name=systemd:", ("/sys/fs/cgroup/systemd",)),
)


def detach(kept: Sequence[int], name: str) -> None:
    """A session and a working directory of its own, no descriptor but those `kept`, and no share in the unit,
    container or limits of whoever called. `name` is what ps shows."""
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    first = 3
    for each in sorted(kept):
        os.closerange(first, each)
        first = each + 1
        os.set_inheritable(each, False)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    for each in (signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
    with suppress(OSError, ValueError):
        adjustment = Path("/proc/self/oom_score_adj")
        if int(adjustment.read_text()) < 0:  # a runtime's own protection is not for what may be killed
            adjustment.write_text("0")
    leave_group()


def leave_group() -> None:
    """Go to the control group of process 1, of which no unit or container waits for its members to end, and
    which nothing ends before the machine. Where that is refused, stay."""
    with suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().splitlines()
        for line in Path("/proc/1/cgroup").read_text().splitlines():
            for mark, mounts in _GROUPS:
                if mark not in line or line in own:
                    continue
                for mount in mounts:
                    group = Path(mount) / line.partition(mark)[2].lstrip("/") / "cgroup.procs"
                    with suppress(OSError):
                        if group.exists():
                            group.write_text(f"{os.getpid()}\n")
                            break
