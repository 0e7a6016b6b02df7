"""A sign of life for probes: a small file, replaced every few seconds, so that no port is open for it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final, Protocol

from l3net.errors import NotRunningError

PULSE: Final = "controller.json"
#: Seconds after which a controller that gave no sign counts as hung: an API server that does not answer holds
#: up an attempt on the lease for about 40 s.
STALE: Final = 120.0


class Living(Protocol):
    """As much of a controller as is told."""

    @property
    def in_sync(self) -> bool: ...

    @property
    def leading(self) -> bool: ...

    @property
    def passes(self) -> int: ...

    @property
    def problem(self) -> str: ...


class Pulse:
    """Called with the controller, says in RUN_DIR/controller.json how it is."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / PULSE

    def __call__(self, controller: Living) -> None:
        sign = {
            "pid": os.getpid(),
            "at": time.clock_gettime(time.CLOCK_MONOTONIC),
            "inSync": controller.in_sync,
            "leading": controller.leading,
            "passes": controller.passes,
            "problem": controller.problem,
        }
        # No fsync: after a crash of the machine nobody asks for this sign.
        temp = self._path.with_suffix(f".{os.getpid()}")
        temp.touch(mode=0o600)
        temp.write_text(json.dumps(sign) + "\n", encoding="utf-8")
        temp.rename(self._path)


def probe(run_dir: Path, *, ready: bool) -> str:
    """One line on the controller that lives. Raises NotRunningError when it hangs, or is not `ready`."""
    path = run_dir / PULSE
    try:
        sign = json.loads(path.read_text(encoding="utf-8"))
        age = time.clock_gettime(time.CLOCK_MONOTONIC) - float(sign["at"])
    except (OSError, ValueError, KeyError, TypeError):
        raise NotRunningError(f"no sign of a controller at {path}; is `l3net controller` running?") from None
    if not 0 <= age < STALE:
        raise NotRunningError(f"the controller (pid {sign['pid']}) gave no sign for {age:.0f} s")
    if ready and not sign["inSync"]:
        raise NotRunningError("the controller has not read the cluster's state yet")
    role = "leading" if sign["leading"] else "standing by"
    return (
        f"pid {sign['pid']}, {role}, {sign['passes']} passes{': ' * bool(sign['problem'])}{sign['problem']}"
    )
