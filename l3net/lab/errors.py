"""What goes wrong in a lab."""

from __future__ import annotations

from l3net.errors import ConfigError, L3netError, NotRunningError


class TopologyError(ConfigError):
    """The topology file is wrong: `where` is the path inside it, such as `nodes[1].pods`."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"topology: {where}: {why}" if where else f"topology: {why}")
        self.where = where
        self.why = why


class LabError(L3netError):
    """A lab could not be brought up, asked or taken down."""


class LabExistsError(LabError):
    """There is a lab of that name already, which is not ours to take down; nothing was changed."""

    exit_code = ConfigError.exit_code


class UnknownNameError(LabError):
    """A host, link, pod, node or router that the lab does not have was named; nothing was changed."""

    exit_code = ConfigError.exit_code


class NoLabError(NotRunningError):
    """There is no lab of that name."""
