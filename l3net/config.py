"""Settings of the agent, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l3net.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`mtu` is that of pods in bytes, None to take the uplink's."""

    node_name: str
    datastore: Path
    run_dir: Path
    state_dir: Path
    mtu: int | None = None


def datastore_path(option: str) -> Path:
    """The directory of `dir:PATH`. Raises ConfigError."""
    kind, _, rest = option.partition(":")
    if kind != "dir" or not rest:
        raise ConfigError(f"--datastore {option}: write dir:PATH, the directory that holds the manifests")
    return Path(rest)
