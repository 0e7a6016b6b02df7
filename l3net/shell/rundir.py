"""The run directory: ours alone, or not used. It holds passwords; whoever owns it says what ExaBGP runs."""

from __future__ import annotations

import os
from pathlib import Path

from l3net.errors import ConfigError


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
        raise ConfigError(f"run directory {run_dir}: {err.strerror}; this needs root") from err
