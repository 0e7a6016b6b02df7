"""The run directory: ours alone, or not used. It holds passwords; whoever owns it says what ExaBGP runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from l3net.errors import ConfigError, refusal

#: Files of the agent that get their names once they are whole.
PARTIAL: Final = (".drain-*", ".routes-*", ".exabgp-*.conf", ".exabgp-checked-*")


def claim(run_dir: Path) -> None:
    """Make it, mode 0700. Raises ConfigError, also when it belongs to somebody else, who could replace what
    is in it whatever its mode."""
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = run_dir.stat().st_uid
        if owner != os.geteuid():
            raise ConfigError(f"run directory {run_dir}: belongs to user {owner}; chown or remove it")
        run_dir.chmod(0o700)
    except OSError as err:
        raise ConfigError(f"run directory {run_dir}: {refusal(err)}") from err


def sweep(run_dir: Path) -> None:
    """Remove what an agent that was killed had begun to write. For the only agent there is."""
    for pattern in PARTIAL:
        for path in run_dir.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()
