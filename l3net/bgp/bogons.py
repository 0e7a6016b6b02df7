"""Prefixes and AS numbers that have no place in routing between networks, by IANA's registries.

Sources: the special-purpose address registries (RFC 6890 and the RFCs named beside each block) and the
special-purpose AS number registry (RFC 7249). Blocks that are globally reachable, such as 64:ff9b::/96
(RFC 6052), are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from l3net.model import Bogons, Prefix


def _parse(*texts: str) -> dict[int, tuple[Prefix, ...]]:
    parsed: list[Prefix] = [ip_network(text) for text in texts]
    return {version: tuple(each for each in parsed if each.version == version) for version in (4, 6)}


#: Never routed between networks.
SPECIAL_PURPOSE: Final = _parse(
    "0.0.0.0/8",  # RFC 791
    "127.0.0.0/8",  # RFC 1122
    "169.254.0.0/16",  # RFC 3927
    "192.0.0.0/24",  # RFC 6890
    "192.0.2.0/24",  # RFC 5737
    "192.88.99.0/24",  # RFC 7526
    "198.18.0.0/15",  # RFC 2544
    "198.51.100.0/24",  # RFC 5737
    "203.0.113.0/24",  # RFC 5737
    "224.0.0.0/4",  # RFC 5771
    "240.0.0.0/4",  # RFC 1112
    "::/127",  # RFC 4291: unspecified and loopback
    "::ffff:0:0/96",  # RFC 4291
    "64:ff9b:1::/48",  # RFC 8215
    "100::/64",  # RFC 6666
    "2001::/32",  # RFC 4380
    "2001:2::/48",  # RFC 5180
    "2001:10::/28",  # RFC 4843
    "2001:db8::/32",  # RFC 3849
    "2002::/16",  # RFC 3056, RFC 7526
    "3fff::/20",  # RFC 9637
    "5f00::/16",  # RFC 9602
    "fe80::/10",  # RFC 4291
    "fec0::/10",  # RFC 3879
    "ff00::/8",  # RFC 4291
)
#: For use within a network, or between one and its provider.
PRIVATE_USE: Final = _parse(
    "10.0.0.0/8",  # RFC 1918
    "100.64.0.0/10",  # RFC 6598
    "172.16.0.0/12",  # RFC 1918
    "192.168.0.0/16",  # RFC 1918
    "fc00::/7",  # RFC 4193
)

#: First and last.
RESERVED_AS: Final = (
    (0, 0),  # RFC 7607
    (23456, 23456),  # AS_TRANS, RFC 6793
    (64496, 64511),  # RFC 5398
    (65535, 65535),  # RFC 7300
    (65536, 65551),  # RFC 5398
    (65552, 131071),  # reserved by IANA
    (4294967295, 4294967295),  # RFC 7300
)
PRIVATE_AS: Final = ((64512, 65534), (4200000000, 4294967294))  # RFC 6996


def blocks() -> Iterator[Prefix]:
    """All of them."""
    return (block for kinds in (SPECIAL_PURPOSE, PRIVATE_USE) for each in kinds.values() for block in each)


def bogon_prefix(bogons: Bogons, prefix: Prefix) -> bool:
    """Whether a prefix equals or lies inside a block that is refused."""
    return (bogons.prefixes and _inside(SPECIAL_PURPOSE, prefix)) or (
        bogons.private_prefixes and _inside(PRIVATE_USE, prefix)
    )


def bogon_as_path(bogons: Bogons, as_path: Iterable[int]) -> bool:
    """Whether an AS_PATH holds a number that is refused."""
    refused = (
        *(RESERVED_AS if bogons.as_numbers else ()),
        *(PRIVATE_AS if bogons.private_as_numbers else ()),
    )
    return bool(refused) and any(first <= each <= last for each in as_path for first, last in refused)


def _inside(blocks: dict[int, tuple[Prefix, ...]], prefix: Prefix) -> bool:
    # Not `contains`, which would ask the prefix for its number once a block: twice the time of every path.
    number, length = int(prefix.network_address), prefix.prefixlen
    return any(
        length >= block.prefixlen and int(block.network_address) <= number <= int(block.broadcast_address)
        for block in blocks[prefix.version]
    )
