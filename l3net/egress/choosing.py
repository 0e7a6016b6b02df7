"""Which node holds each egress address, and which of several addresses a pod leaves with.

Every pair draws a number, and the highest wins (rendezvous hashing, Thaler and Ravishankar, 1998): what goes
moves what it had, and nothing else. An address has a home among all nodes that may hold it, those that are
away too, and its home alone where that is there; so a node that fails moves its own addresses, and has them
back when it is there again, while no other address moves.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from l3net.model import Address, ObjectName


@functools.lru_cache(maxsize=1 << 17)  # addresses by nodes are drawn again with every Node that changes
def draw(*what: object) -> int:
    """A number that a pair draws."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, what)).encode()).digest()[:8], "big")


def homes(addresses: Iterable[Address], nodes: Collection[str]) -> dict[Address, str]:
    """A home for each address: spread, so that no node is home to two while one of `nodes` is to none."""
    found: dict[Address, str] = {}
    open_to: set[str] = set()
    left = set(addresses)
    while left and nodes:
        open_to = open_to or set(nodes)
        pairs = sorted(
            ((draw(address, node), node, address) for address in left for node in open_to), reverse=True
        )
        for _, node, address in pairs:
            if address in left and node in open_to:
                found[address] = node
                left.remove(address)
                open_to.remove(node)
    return found


@functools.lru_cache(maxsize=4096)  # they are the same while nodes fail and return
def _homes(addresses: frozenset[Address], nodes: frozenset[str]) -> Mapping[Address, str]:
    return homes(addresses, nodes)


def holders(
    addresses: Sequence[Address], nodes: Collection[str], there: Collection[str]
) -> dict[Address, str]:
    """Who holds each address: its home, or while that is not `there` another of `nodes` that is, of those
    that are home to none first. Empty where none is there."""
    at = _homes(frozenset(addresses), frozenset(nodes))
    present = set(there) & set(nodes)
    busy = {node for node in at.values() if node in present}
    found: dict[Address, str] = {}
    for address, home in at.items():
        if home in present:
            found[address] = home
        elif present:
            found[address] = max(present - busy or present, key=lambda node: (draw(address, node), node))
    return found


def chosen(pod: ObjectName, held: Mapping[Address, str]) -> Address | None:
    """The address that a pod leaves with, of those of one family that somebody holds."""
    return max(held, key=lambda address: (draw(pod, address), int(address)), default=None)
