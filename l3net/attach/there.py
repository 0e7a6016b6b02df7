"""Reads what is there of attachments on this node."""

from __future__ import annotations

from l3net.attach.reaper import DOOMED_GROUP
from l3net.cni.guard import GuardedPort
from l3net.cni.present import HostEnd, Present, host_end
from l3net.ipam.lease import LeaseStore
from l3net.model import Address
from l3net.naming import VETH_PREFIX
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import confirmed_mac, of_bridge
from l3net.shell.kernel.neighbours import neighbours_of
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


def guarded_ports(netlink: Netlink, store: LeaseStore, bridge: str) -> tuple[list[GuardedPort], list[str]]:
    """The ports of the node's pods, and those whose MAC neither the alias nor the neighbours tell.

    Raises KernelError, LeaseStoreError.
    """
    ends = {end.name: end for end in host_ends(netlink)}
    known: dict[Address, tuple[str, bool]] | None = None
    ports, unknown = [], []
    for lease in store.leases() if ends else ():
        end = ends.get(lease.host_ifname)
        if end is None or not of_bridge(lease):
            continue
        addresses = tuple([leased.address for leased in lease.addresses])
        mac = end.mac
        if not mac:
            if known is None:
                master = links.get_link(netlink, bridge)
                known = neighbours_of(netlink, master.index) if master is not None else {}
            mac = confirmed_mac(addresses, known)
        if mac:
            ports.append(GuardedPort(end.name, mac, addresses, str(lease.pod)))
        else:
            unknown.append(end.name)
    return ports, unknown
