"""What the checks need of a lab, however its hosts are reached: namespaces of this machine, or ssh."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from l3net.lab.errors import LabError
from l3net.lab.topology import Topology
from l3net.model import Address


@dataclass(frozen=True, slots=True)
class Output:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


class Machine(Protocol):
    """A host that runs. Commands are root's."""

    @property
    def name(self) -> str: ...

    @property
    def python(self) -> Sequence[str]:
        """A Python of 3.9 or newer, without site packages."""
        ...

    def run(
        self,
        argv: Sequence[str],
        *,
        text: str | None = None,
        pod: str | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> Output:
        """Run a command to its end, inside the network namespace of a pod if one is named.

        Raises LabError if it takes too long or, with `check`, fails.
        """
        ...

    def spawn(self, name: str, argv: Sequence[str]) -> None:
        """Start a program that goes on by itself, with a fresh log."""
        ...

    def kill(self, name: str, sign: int = signal.SIGTERM) -> None:
        """Signal what `spawn` started; that it is gone is fine."""
        ...

    def alive(self, name: str) -> bool:
        """Whether what `spawn` started still runs."""
        ...

    def read_log(self, name: str) -> str:
        """All that it said."""
        ...

    def status(self) -> dict[str, Any]:
        """What the agent says of itself, as `l3net status -o json` prints it."""
        ...


@dataclass(frozen=True, slots=True)
class LabPod:
    """A pod as it is."""

    name: str
    host: Machine
    addresses: tuple[Address, ...]

    def address(self, version: int) -> Address:
        for address in self.addresses:
            if address.version == version:
                return address
        raise LabError(f"pod {self.name} has no IPv{version} address")


class CheckedLab(Protocol):
    """A lab that runs, with what checks do to it. Everything raises LabError."""

    @property
    def topology(self) -> Topology: ...

    @property
    def hosts(self) -> Mapping[str, Machine]: ...

    @property
    def patience(self) -> float:
        """How many times the usual limits of time its hosts get."""
        ...

    def host(self, name: str) -> Machine: ...

    def pod(self, name: str) -> LabPod:
        """A pod as it is now."""
        ...

    def number(self, host: str) -> None:
        """Give a host its addresses and routes, again if need be; its links are up afterwards."""
        ...

    def interface(self, host: str, interface: str) -> str:
        """What a host calls an interface of the topology."""
        ...

    def set_nat_outgoing(self, nat_outgoing: bool | None) -> None:
        """Declare it on every pool; None is what the topology says."""
        ...

    def set_consistent(self, consistent: bool) -> None:
        """Declare of every service whether all nodes answer a client alike."""
        ...

    def delete_pod(self, name: str) -> None:
        """As a runtime does, the plugin's DEL included."""
        ...

    def make_pod(self, name: str) -> LabPod:
        """Make a pod that was deleted, and the EndpointSlices that name it."""
        ...

    def complaint(self, pod: str) -> str | None:
        """What the plugin's CHECK has to say; None if it is content, or nobody can ask it."""
        ...

    def kill_agent(self, node: str) -> None:
        """SIGKILL; it is gone when this returns."""
        ...

    def start_agent(self, node: str) -> None:
        """Start it, unless something has; it is ready when this returns."""
        ...
