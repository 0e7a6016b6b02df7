"""Connections of addresses that move: of floating ones those that go on as they began, also to a pod that is
gone, and of egress addresses all that leave with one."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

from l3net.model import Address, Tracked
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.conntrack import (
    CT_GET,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_REPLY,
    NFGENMSG,
    Tuple,
    decoded,
    deleted,
    deleting,
    own_addresses,
    tuple_of,
)
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attributes


def forget_floating(holders: Mapping[Address, Address | None]) -> int:
    """Delete, in the calling thread's namespace, the connections of floating addresses that are not of the
    pod that has the address; how many there were. Raises KernelError.

    One reading of each family's table for all addresses.
    """
    if sysctl.read("net/netfilter/nf_conntrack_count") in (None, "0"):
        return 0
    count = 0
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            held = {
                address.packed: pod.packed if pod is not None else b""
                for address, pod in holders.items()
                if address.version == version
            }
            requests = []
            for _, body in netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(family, 0, 0))) if held else ():
                found = dict(attributes(memoryview(body)[NFGENMSG.size :]))
                if CTA_TUPLE_ORIG not in found or CTA_TUPLE_REPLY not in found:
                    continue
                if floats_elsewhere(tuple_of(found[CTA_TUPLE_ORIG]), tuple_of(found[CTA_TUPLE_REPLY]), held):
                    requests.append(deleting(body, found))
            count += deleted(netlink.transact(requests), "forget connections")
    return count


def tracked_as(addresses: Collection[Address]) -> list[Tracked]:
    """The connections of the calling thread's namespace whose source others see as one of these addresses,
    but for those that the host began itself. One reading of each family's table. Raises KernelError."""
    if not addresses or sysctl.read("net/netfilter/nf_conntrack_count") in (None, "0"):
        return []
    local, found = own_addresses(), list[Tracked]()
    with Netlink(NETLINK_NETFILTER) as netlink:
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            wanted = {each.packed for each in addresses if each.version == version}
            for _, body in netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(family, 0, 0))) if wanted else ():
                if any(each in body for each in wanted):
                    parts = dict(attributes(memoryview(body)[NFGENMSG.size :]))
                    if CTA_TUPLE_ORIG not in parts or CTA_TUPLE_REPLY not in parts:
                        continue
                    original, reply = tuple_of(parts[CTA_TUPLE_ORIG]), tuple_of(parts[CTA_TUPLE_REPLY])
                    if reply.destination in wanted and original.source not in local:
                        found.append(decoded(body, parts, original, reply))
    return found


def floats_elsewhere(original: Tuple, reply: Tuple, held: Mapping[bytes, bytes]) -> bool:
    """Whether a connection goes by a floating address that is not, or no longer, the other end's. `held`: by
    address the pod that has it, empty for none. What only passes, untranslated, is nobody's here."""
    to, pod = original.destination, held.get(original.destination)
    if pod is not None and reply.source != pod and (pod or reply.source != to):
        return True
    back, pod = reply.destination, held.get(reply.destination)
    return pod is not None and original.source not in (pod, back)
