"""Where the nft command is."""

from __future__ import annotations

import os

from l3net.errors import ConfigError


def find_nft() -> str:
    """The path of nft. Raises ConfigError where there is none."""
    import shutil  # noqa: PLC0415 - a plugin begins with this, for each pod where no agent runs

    path = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise ConfigError("nft is not installed: install the package nftables (1.0.6 or later)")
    return path
