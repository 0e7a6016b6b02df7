"""When the kernel delivers what comes for an IPv6 address (rtnetlink(7); addrconf_dad_work of Linux).

The kernel puts an IPv6 address on a link at once, and its route in table local from a work queue: without
duplicate-address detection too, and on a busy node tens of milliseconds later. Until then the host sends from
the address and drops what comes for it. The answer to its first neighbour solicitation is lost, and it asks
again after a second.
"""

from __future__ import annotations

import _socket as socket  # as `netlink`
import errno
import time
from collections.abc import Iterable
from typing import Final

from l3net.cni.result import InterfaceAddress
from l3net.errors import KernelError
from l3net.model import Address
from l3net.naming import RTPROT_L3NET
from l3net.shell.kernel.links import u32
from l3net.shell.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Netlink, Request, attribute
from l3net.shell.kernel.podroutes import (
    RT_SCOPE_UNIVERSE,
    RTA_DST,
    RTA_OIF,
    RTA_PRIORITY,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RTPROT_KERNEL,
)

RTM_DELROUTE: Final = 25
RT_TABLE_LOCAL: Final = 255
RTN_LOCAL: Final = 2
#: Behind the kernel's own, which has 0.
STAND_IN_METRIC: Final = 1
#: Seconds. The work waits for a processor and for the kernel's lock of all links, both of which may be busy.
PATIENCE: Final = 5.0
#: What a lookup says where no route leads to the address.
_NO_WAY: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH)
_FIRST_WAIT: Final = 0.0001
_LONGEST_WAIT: Final = 0.01


def settled(netlink: Netlink, addresses: Iterable[InterfaceAddress], patience: float = PATIENCE) -> bool:
    """Wait until what comes for addresses of links that are up is delivered; of IPv4 it is at once.

    False if that takes longer, as where somebody's rules hide table local. Raises KernelError.
    """
    deadline = time.monotonic() + patience
    for address in addresses:
        wait = _FIRST_WAIT
        while address.version == 6 and not _delivers(netlink, address.ip):
            if time.monotonic() > deadline:
                return False
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
    return True


def stand_in(index: int, address: Address, *, put: bool = True) -> Request:
    """A local route that delivers for an IPv6 address while the kernel's own goes and comes back; with `put`
    off, its end."""
    header = RTMSG.pack(
        socket.AF_INET6, 128, 0, 0, RT_TABLE_LOCAL, RTPROT_L3NET, RT_SCOPE_UNIVERSE, RTN_LOCAL, 0
    )
    body = header + attribute(RTA_DST, address.packed) + u32(RTA_OIF, index)
    body += u32(RTA_PRIORITY, STAND_IN_METRIC)
    if not put:
        return Request(RTM_DELROUTE, 0, body)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def _delivers(netlink: Netlink, address: Address) -> bool:
    """Whether the kernel's own local route is what a packet to the address meets."""
    header = RTMSG.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
    try:
        _, body = netlink.get(Request(RTM_GETROUTE, 0, header + attribute(RTA_DST, address.packed)))
    except KernelError as err:
        if err.code in _NO_WAY:
            return False
        raise
    _, _, _, _, _, protocol, _, kind, _ = RTMSG.unpack_from(body)
    return (protocol, kind) == (RTPROT_KERNEL, RTN_LOCAL)
