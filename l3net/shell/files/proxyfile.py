"""RUN_DIR/service-proxy.json: whether the last agent of this boot was the node's service proxy.

Its table stays when it ends. The next one goes on as it was until it knows better, so that nothing is taken
away from services in between.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from l3net.errors import L3netError
from l3net.shell.files.drainfile import boot_id
from l3net.shell.files.whole import write_whole

FILE: Final = "service-proxy.json"
LONGEST: Final = 4096


class ProxyFileError(L3netError):
    """It cannot be written."""


class ProxyFile:
    """ports.ProxyMemory over a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def read(self) -> bool | None:
        """None: nothing was written during this boot, or nothing that can be read."""
        path = self._run_dir / FILE
        try:
            if path.stat().st_size > LONGEST:
                return None
            found = json.loads(path.read_text())
            return bool(found["on"]) if found["boot"] == boot_id() else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, on: bool) -> None:
        """Replace it whole. Raises ProxyFileError."""
        path = self._run_dir / FILE
        try:
            write_whole(path, json.dumps({"boot": boot_id(), "on": on}))
        except OSError as err:
            raise ProxyFileError(f"{path}: {err.strerror}") from err
