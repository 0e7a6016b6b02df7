"""What the CNI server reaches the world by; the agent's is the kernel and the lease store on the disk."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from l3net.attach import rules as cnirules
from l3net.attach.callsocket import listening
from l3net.attach.guard import GuardTable
from l3net.attach.reaper import opened
from l3net.attach.rules import Rules
from l3net.faults import Faults
from l3net.ipam.lease import Lease, NodeLeases
from l3net.shell.files.leases import SqliteLeases, boot_id
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.conntrack import ConntrackFlush, Flush
from l3net.shell.kernel.namespaces import setns
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.nftguard import NftGuard
from l3net.shell.kernel.sandbox import Sandboxes
from l3net.shell.threads import REAL, Threads


class PortBridge(Protocol):
    """The bridge's ports, and what the bridge knows of the pods behind them."""

    def attach_ports(self, name: str, leases: Callable[[], Iterable[Lease]]) -> list[str]:
        """Put the host ends of leases back, and their pins; the names of those that were moved."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AttachShells:
    """Each is opened by `CniServer.start`, in the namespace of the thread that calls it.

    `leases` is given the file, `sandboxes` the namespace, which each thread has entered by `enter` and has
    sandboxes of its own in. `opened` enters one and opens a socket there. `listen` takes the calls.
    """

    leases: Callable[[Path], NodeLeases]
    sandboxes: Callable[[int], Sandboxes]
    bridge: Callable[[], PortBridge]
    guard: Callable[[], GuardTable] = NftGuard
    rules: Rules = cnirules
    flush: Callable[[int, Faults], Flush] = ConntrackFlush
    enter: Callable[[int], None] = setns
    opened: Callable[[int], Netlink] = opened
    listen: Callable[[Path], socket.socket] = listening
    boot: Callable[[], str] = boot_id
    threads: Threads = REAL


def _leases(path: Path) -> NodeLeases:
    return SqliteLeases(path, verify=True, named=True)


def _sandboxes(home: int) -> Sandboxes:
    return Sandboxes(Netlink(), home)


KERNEL: Final = AttachShells(_leases, _sandboxes, KernelBridge)
