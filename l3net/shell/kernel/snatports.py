"""How full the ports of source addresses are, and what connection tracking has refused.

A connection whose source is translated needs a tuple of its own: protocol, source address and port,
destination address and port. Once all ports of an address towards one destination are taken, the first packet
of a new connection is dropped, and counted as `insert_failed` and `drop`: nf_nat_l4proto_unique_tuple gives
up in silence, and __nf_conntrack_confirm finds the tuple taken. Two packets that race for one tuple are
counted alike, so that the counters tell of trouble, and the connections themselves of its cause.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from l3net.model import PortUse
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.conntrack import (
    CT_GET,
    CTA_STATUS,
    CTA_STATUS_MASK,
    CTA_TUPLE_REPLY,
    NFGENMSG,
    tuple_of,
)
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes

#: ctnetlink's counters of each processor (linux/netfilter/nfnetlink_conntrack.h).
CT_GET_STATS_CPU: Final = (1 << 8) | 4
#: enum ctattr_stats_cpu.
_STATS: Final = {9: "insert_failed", 10: "drop", 11: "early_drop"}
IPS_SRC_NAT: Final = 1 << 4
_SRC_NAT: Final = IPS_SRC_NAT.to_bytes(4, "big")
_WITH_PORTS: Final = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
#: Ports below are of their own kind: what begins below 1024 stays below.
_FIRST: Final = (1024).to_bytes(2, "big")
#: Octets of a tuple with ports: two nests, two addresses, protocol, two ports (ctnetlink_dump_tuples).
_WHOLE: Final = tuple(4 + 2 * (4 + octets) + 4 + 3 * 8 for octets in (4, 16))


def refused() -> Mapping[str, int]:
    """Counters of the calling thread's namespace since its start, of all processors together; they wrap at
    2**32 a processor. `drop`: packets whose connection could not be entered (no free tuple, or no room);
    `insert_failed`: those without a free tuple; `early_drop`: connections that made room for others. Raises
    KernelError."""
    found = dict.fromkeys(_STATS.values(), 0)
    with Netlink(NETLINK_NETFILTER) as netlink:
        for _, body in netlink.dump(Request(CT_GET_STATS_CPU, 0, NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))):
            for kind, value in attributes(memoryview(body)[NFGENMSG.size :]):
                if kind in _STATS:
                    found[_STATS[kind]] += int.from_bytes(value, "big")
    return found


def used_ports(least: int = 1) -> tuple[PortUse, ...]:
    """Of each source address and protocol with translated connections, the destination that takes the most of
    its ports, the fullest first; those with `least` and more. Raises KernelError.

    With fewer connections than that in all, nothing is read.
    """
    if int(sysctl.read("net/netfilter/nf_conntrack_count") or 0) < least:
        return ()
    counts: Counter[bytes] = Counter()
    asked = attribute(CTA_STATUS, _SRC_NAT) + attribute(CTA_STATUS_MASK, _SRC_NAT)  # Linux 5.8; older: all
    with Netlink(NETLINK_NETFILTER) as netlink:
        for _, body in netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(socket.AF_UNSPEC, 0, 0) + asked)):
            reply, status = b"", -1
            for kind, value in attributes(memoryview(body)[NFGENMSG.size :]):
                if kind == CTA_TUPLE_REPLY:
                    reply = bytes(value)
                elif kind == CTA_STATUS:
                    status = int.from_bytes(value, "big")
                if reply and status >= 0:
                    break
            # Its last attribute is the port: two octets, in the network's order, and two that fill up.
            if status & IPS_SRC_NAT and len(reply) in _WHOLE and reply[-4:-2] >= _FIRST:
                counts[reply[:-4]] += 1
    fullest: dict[tuple[bytes, int], PortUse] = {}
    for key, used in counts.items():
        found = tuple_of(memoryview(key + bytes(4)))
        source, protocol = found.destination, found.protocol
        before = fullest.get((source, protocol))
        if protocol in _WITH_PORTS and used >= least and (before is None or before.used < used):
            to = ip_address(found.source)
            fullest[source, protocol] = PortUse(ip_address(source), protocol, to, found.source_port, used)
    return tuple(sorted(fullest.values(), key=lambda each: (-each.used, str(each.source), each.protocol)))
