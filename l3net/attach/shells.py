"""What the CNI server reaches the world by; the agent's is the kernel and the lease store on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from l3net.attach.guard import GuardTable
from l3net.ipam.lease import Lease, NodeLeases
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.nftguard import NftGuard
from l3net.shell.kernel.sandbox import Sandboxes


class PortBridge(Protocol):
    """The bridge's ports, and what the bridge knows of the pods behind them."""

    def attach_ports(self, name: str, leases: Callable[[], Iterable[Lease]]) -> list[str]:
        """Put the host ends of leases back, and their pins; the names of those that were moved."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AttachShells:
    """Each is opened by `CniServer.start`, in the namespace of the thread that calls it.

    `leases` is given the file, `sandboxes` the namespace; each thread has sandboxes of its own.
    """

    leases: Callable[[Path], NodeLeases]
    sandboxes: Callable[[int], Sandboxes]
    bridge: Callable[[], PortBridge]
    guard: Callable[[], GuardTable] = NftGuard


def _leases(path: Path) -> NodeLeases:
    return SqliteLeases(path, verify=True, named=True)


def _sandboxes(home: int) -> Sandboxes:
    return Sandboxes(Netlink(), home)


KERNEL: Final = AttachShells(_leases, _sandboxes, KernelBridge)
