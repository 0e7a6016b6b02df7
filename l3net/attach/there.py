"""Reads what is there of attachments on this node."""

from __future__ import annotations

from l3net.attach.reaper import DOOMED_GROUP
from l3net.cni.present import HostEnd, Present, host_end
from l3net.ipam.lease import LeaseStore
from l3net.naming import VETH_PREFIX
from l3net.shell.kernel import links
from l3net.shell.kernel.netlink import Netlink


def host_ends(netlink: Netlink) -> tuple[HostEnd, ...]:
    """The host ends of this namespace, without those that wait to be deleted. Raises KernelError."""
    return tuple(
        host_end(link.name, link.index, link.alias)
        for link in links.all_links(netlink)
        if link.name.startswith(VETH_PREFIX) and link.group != DOOMED_GROUP
    )


def present(ends: tuple[HostEnd, ...], store: LeaseStore, network: str | None = None) -> Present:
    """Host ends, read before, and what a store holds of a network or all. Raises LeaseStoreError."""
    leases = tuple(store.leases(network))
    return Present(ends, leases, tuple(key for key, _ in store.records(network)))
