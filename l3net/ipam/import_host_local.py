"""Reading the reference host-local's files as leases.

A file in DIR is named after the address (IPv6 with `_` for `:` on some systems) and holds the
container ID and, on the second line, the interface name (plugins v0.7 and later).
"""

from __future__ import annotations

from l3net.addresses import address_order, parse_address
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey
from l3net.model import Address


def parse_reservation(network: str, filename: str, content: str) -> tuple[LeaseKey, Address] | None:
    """One file, None if it is none of host-local's (`lock`, `last_reserved_ip.0`)."""
    try:
        address = parse_address(filename.replace("_", ":"))
    except ValueError:
        return None
    lines = content.replace("\r", "").split("\n")
    container = lines[0].strip()
    if not container:
        return None
    ifname = lines[1].strip() if len(lines) > 1 and lines[1].strip() else "eth0"
    return LeaseKey(network, container, ifname), address


def leases_of(reservations: list[tuple[LeaseKey, Address]]) -> list[Lease]:
    """One lease an attachment; the prefix length is not in the files, so it is the address's own."""
    found: dict[LeaseKey, list[Address]] = {}
    for key, address in reservations:
        found.setdefault(key, []).append(address)
    return [
        Lease(
            key,
            0,
            tuple(LeasedAddress(each, each.max_prefixlen) for each in sorted(addresses, key=address_order)),
        )
        for key, addresses in sorted(found.items())
    ]
