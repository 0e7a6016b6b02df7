"""The device by which packets for a service go to the node that answers, as they came: who is at its ends.

Everything follows from the declared nodes, alike on all of them: a node's MAC from its address, the family of
the outer packets from the addresses that all have. The gateways that stand for other nodes never leave this
one: they are looked up with the device given, and its neighbour entries are permanent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final

from l3net.model import Address, Envelope, EnvelopeEnd, Node
from l3net.naming import ANNOTATION_TAKES_PART

#: Of the reserved class E (RFC 1112 section 4), narrow enough to stand beside whoever else uses some of it.
#: The upper half is for asking.
GATEWAYS: Final = IPv4Network("240.108.0.0/15")
#: The device's own: without an IPv4 address the kernel takes nothing from it where rp_filter is on.
OWN: Final = GATEWAYS[-2]
_LINK_LOCAL: Final = 0xFE80 << 112


def takes_part(node: Node, *, said: bool) -> bool:
    """Whether a node takes what others hand on to it.

    Where agents write on their Nodes (`said`), one that does not say so may be of a release that knows
    nothing of it, or have another service proxy. In a directory of manifests nobody writes: all take part,
    but those that are said not to.
    """
    return node.annotations.get(ANNOTATION_TAKES_PART, "false" if said else "true") == "true"


def envelope(nodes: Mapping[str, Node], me: str, mtu: int, *, said: bool = False) -> Envelope | None:
    """This node's; None where it has no address of the family that is used. `mtu` is that of the underlay,
    `said` as for takes_part: nothing goes to who takes no part."""
    version = outer_version(nodes.values())
    found = {name: address for name, node in nodes.items() if (address := _address(node, version))}
    own = found.pop(me, None)
    if own is None:
        return None
    gateways = dict(zip(sorted(found), _gateways(found[name] for name in sorted(found)), strict=True))
    taking = (name for name in sorted(found) if takes_part(nodes[name], said=said))
    ends = tuple(_end(nodes[name], found[name], gateways[name]) for name in taking)
    return Envelope(me, mac_of(own), own, mtu, ends)


def _end(node: Node, address: Address, gateway: IPv4Address) -> EnvelopeEnd:
    mac = mac_of(address)
    asking = f"{int(mac[:2], 16) | 1:02x}{mac[2:]}"  # the bit of a group's address
    gateways: dict[tuple[int, bool], Address] = {
        (4, False): gateway,
        (4, True): gateway + GATEWAYS.num_addresses // 2,
        (6, False): _link_local(mac),
        (6, True): _link_local(asking),
    }
    return EnvelopeEnd(node.name, mac, asking, address, gateways, node.ready)


def outer_version(nodes: Iterable[Node]) -> int:
    """IPv4 if every node has an address of it, else IPv6: the same on all nodes."""
    return 4 if all(_address(node, 4) for node in nodes if node.addresses) else 6


def mac_of(address: Address) -> str:
    """The MAC of the device of the node with this address, locally administered (IEEE 802 section 8.2)."""
    packed = address.packed
    rest = b"\x0a\x6c" + packed if address.version == 4 else b"\x0e" + hashlib.sha256(packed).digest()[:5]
    return ":".join(f"{octet:02x}" for octet in rest)


def _address(node: Node, version: int) -> Address | None:
    return next((each for each in node.addresses if each.version == version), None)


def _gateways(addresses: Iterable[Address]) -> Iterator[IPv4Address]:
    """One for each: that which its digest says or, where another has it, the next."""
    taken: set[int] = set()
    room = GATEWAYS.num_addresses // 2 - 3
    for address in addresses:
        number = int.from_bytes(hashlib.sha256(address.packed).digest()[:4], "big") % room
        while number in taken:
            number = (number + 1) % room
        taken.add(number)
        yield GATEWAYS[number + 1]


def _link_local(mac: str) -> IPv6Address:
    return IPv6Address(_LINK_LOCAL | int(mac.replace(":", ""), 16))
