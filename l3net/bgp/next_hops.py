"""Next hops that no router can have, whoever announces them (RFC 4271 section 6.3: syntactically correct
alone does not make a next hop).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from l3net.model import Address, Prefix

#: Addresses that are nobody's to receive packets for others. IPv4 link-local ones (RFC 3927) are not among
#: them: there are links with no other addresses. Nor is any other special-purpose block: what is on a link of
#: this node is there, whatever its block is meant for.
MARTIAN_NEXT_HOPS: Final[tuple[Prefix, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # RFC 1122 section 3.2.1.3: this network
        "127.0.0.0/8",  # loopback
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # RFC 1112 section 4, and 255.255.255.255
        "::/127",  # RFC 4291: unspecified and loopback
        "::ffff:0:0/96",  # IPv4-mapped: no address on a wire (RFC 4291 section 2.5.5.2)
        "ff00::/8",  # multicast
    )
)
#: A link of two has no other addresses than those of its ends (RFC 3021, RFC 6164).
_POINT_TO_POINT: Final = {4: 31, 6: 127}


def martian_next_hop(hop: Address, connected: Iterable[Prefix]) -> bool:
    """Whether an address can be no router's: one of the above, or the first or last of a `connected` subnet.

    Of IPv4 the first is the subnet's own (RFC 1122 section 3.2.1.3) and the last its broadcast address, which
    the kernel takes as no gateway. Of IPv6 the first is the anycast address of all the subnet's routers (RFC
    4291 section 2.6.1), of which this node is one: packets would come back to it. The last ones are addresses
    like any other (RFC 2526 reserves them for anycast, but no router has to have them). Subnets of links of
    two have none of these.
    """
    if any(hop in block for block in MARTIAN_NEXT_HOPS):
        return True
    if hop.version == 6 and hop.is_link_local and not int(hop) & ((1 << 64) - 1):
        return True  # fe80::, likewise
    return any(
        subnet.version == hop.version
        and subnet.prefixlen < _POINT_TO_POINT[hop.version]
        and (hop == subnet.network_address or (hop.version == 4 and hop == subnet.broadcast_address))
        for subnet in connected
    )
