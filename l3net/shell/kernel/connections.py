"""The connections that the kernel tracks, as the agent looks at them and ends them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from l3net.model import Address, PortUse, Stale, Tracked
from l3net.shell.kernel.conntrack import NFGENMSG, deleted, deleting, forget_stale, tracked_of
from l3net.shell.kernel.conntrack_floating import forget_floating, tracked_as
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, attributes
from l3net.shell.kernel.snatports import refused, used_ports

log = logging.getLogger(__name__)


class Conntrack:
    """A ports.Connections over the table of the process's namespace."""

    def of(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        """See ports.Connections. Raises KernelError."""
        return tracked_of(addresses)

    def seen_as(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        """See ports.Connections. Raises KernelError."""
        return tracked_as(addresses)

    def end(self, connections: Collection[Tracked]) -> None:
        """See ports.Connections. Raises KernelError."""
        with Netlink(NETLINK_NETFILTER) as netlink:
            codes = netlink.transact(
                [
                    deleting(each.handle, dict(attributes(memoryview(each.handle)[NFGENMSG.size :])))
                    for each in connections
                ]
            )
        deleted(codes, "end connections")

    def used_ports(self) -> Sequence[PortUse]:
        """See ports.Connections. Raises KernelError."""
        return used_ports()

    def refused(self) -> Mapping[str, int]:
        """See ports.Connections. Raises KernelError."""
        return refused()

    def forget(self, stale: Collection[Stale]) -> None:
        """See ports.Connections. Raises KernelError."""
        if count := forget_stale(stale):
            log.info("%d tracked connections deleted whose translation has changed", count)

    def forget_floating(self, holders: Mapping[Address, Address | None]) -> None:
        """See ports.Connections. Raises KernelError."""
        if count := forget_floating(holders):
            log.info("%d tracked connections of floating addresses deleted", count)
