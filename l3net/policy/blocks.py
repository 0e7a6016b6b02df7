"""Blocks and what is left out of them, as prefixes."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from l3net.model import IpBlock, Prefix


def prefixes_of(blocks: Iterable[IpBlock]) -> list[Prefix]:
    """The addresses of blocks in as few prefixes as hold them, in order. Of thousands of exceptions a few
    hundredths of a second: netaddr keeps its sets in order."""
    from netaddr import IPSet  # noqa: PLC0415 - where no policy names a block it is not needed

    left = (IPSet([str(each.cidr)]) - IPSet(map(str, each.excepts)) for each in blocks)
    return [
        ip_network(str(each))
        for each in IPSet(cidr for found in left for cidr in found.iter_cidrs()).iter_cidrs()
    ]
