"""STATE_DIR/api-servers.json: the endpoints of the service `kubernetes`, as they were known last.

It outlives a reboot: an agent that has no other way to the API server reads it at its start.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from l3net.errors import L3netError
from l3net.shell.files.whole import write_whole

FILE: Final = "api-servers.json"
LONGEST: Final = 1 << 16
#: Servers that are read.
MOST: Final = 64


class ServersFileError(L3netError):
    """It cannot be written."""


class ServersFile:
    """Addresses and TCP ports, over a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE

    def read(self) -> tuple[tuple[str, int], ...]:
        """Those written last; none where there is no such file, or none that can be read."""
        try:
            if self._path.stat().st_size > LONGEST:
                return ()
            rows = json.loads(self._path.read_text())["servers"]
            found = [(str(ipaddress.ip_address(address)), int(port)) for address, port in rows[:MOST]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ()
        return tuple(each for each in found if 0 < each[1] < 65536)

    def write(self, servers: Sequence[tuple[str, int]]) -> None:
        """Replace the file whole, on the disk. Raises ServersFileError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps({"servers": list(servers)}), lasting=True)
        except OSError as err:
            raise ServersFileError(f"{self._path}: {err.strerror}") from err
