"""Which ExaBGP runs here, and whose."""

from __future__ import annotations

from l3net import __version__


def release_here() -> str:
    """Of ExaBGP and of l3net, whose changes to it may be others in another release."""
    try:
        from exabgp.version import release  # noqa: PLC0415 - it may not be installed
    except ImportError:
        release = "none"
    return f"{release} {__version__}"
