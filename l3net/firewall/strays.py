"""ICMP errors about a service's connection that reach a node which does not translate it.

Routers spread a service's address over nodes by a hash that an error does not share with the connection it is
about, so that a "packet too big" meets another node more often than not, and the connection hangs (RFC 1191
section 1, RFC 4821; RFC 7690 describes it for load balancers). Such a node hands it on to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from l3net.model import Address

#: Octets of the longest error that is handed on: what an IPv6 node may send at most (RFC 4443 section 2.4).
LONGEST: Final = 1280
#: Types of errors, by version: unreachable (too big among them), time exceeded, parameter problem (RFC 792);
#: the same and packet too big (RFC 4443).
TYPES: Final = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_ICMP: Final = {4: 1, 6: 58}


def about_service(packet: bytes, is_service: Callable[[Address], bool]) -> Address | None:
    """The service address that an ICMP error in an IP packet is sent to; None for any other packet.

    The packet that the error is about has to be from that address: else it is about no connection of the
    service.
    """
    if not packet or len(packet) > LONGEST:
        return None
    version = packet[0] >> 4
    if version == 4:
        start = (packet[0] & 15) * 4
        protocol, fragment = packet[9:10], int.from_bytes(packet[6:8], "big") & 0x3FFF
        to, source_at, size = packet[16:20], 12, 4
        if start < 20 or fragment:
            return None
    elif version == 6:
        start, protocol, to, source_at, size = 40, packet[6:7], packet[24:40], 8, 16
    else:
        return None
    inner = packet[start + 8 :]
    if protocol != bytes((_ICMP[version],)) or len(inner) < source_at + size or inner[0] >> 4 != version:
        return None
    if packet[start] not in TYPES[version] or inner[source_at : source_at + size] != to:
        return None
    address = ip_address(to)
    return address if is_service(address) else None
