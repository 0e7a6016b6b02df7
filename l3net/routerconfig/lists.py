"""Bounds of prefix lists, as FRR, NX-OS and EOS write them."""

from __future__ import annotations

from l3net.routerconfig.facts import Permit, Router


def bounds(permit: Permit) -> str:
    """` ge 24 le 26`, as far as it says more than the prefix does. Without `le`, `ge 24` means longer ones
    too."""
    length = permit.prefix.prefixlen
    ge = f" ge {permit.low}" if permit.low > length else ""
    exact = permit.low == permit.high == length
    return ge if exact or permit.high == permit.prefix.max_prefixlen else f"{ge} le {permit.high}"


def prefix_lists(router: Router) -> list[str]:
    """Lists L3NET-NODES and L3NET-NODES6, a line an entry."""
    return [
        f"{word} prefix-list {name} seq {5 * place} permit {permit.prefix}{bounds(permit)}"
        for version, word, name in ((4, "ip", "L3NET-NODES"), (6, "ipv6", "L3NET-NODES6"))
        for place, permit in enumerate(router.of(version), 1)
    ]
