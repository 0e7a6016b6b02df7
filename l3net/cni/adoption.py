"""Running attachments that a lease store does not know, out of what the host ends say of themselves.

An agent may find a store that is empty, restored from an older copy, or another one than before
(`--state-dir`), while pods run. What they hold is adopted before anything is handed out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from l3net.cni.plan import host_ifname, lease_of_alias
from l3net.ipam.lease import Lease, LeaseKey
from l3net.model import Prefix


def unknown_attachments(
    links: Iterable[tuple[str, str]], known: Collection[LeaseKey], blocks: Iterable[Prefix]
) -> list[Lease]:
    """The attachments of links, as (name, alias), that are not `known` and are an agent's to know.

    Those are the ones an agent's store gave addresses to, whichever it was, and the ones with an address out
    of `blocks`, this node's: an older release did not mark its links. What a plugin without an agent or
    another address management has is theirs.
    """
    held = list(blocks)
    found = []
    for name, alias in links:
        lease = lease_of_alias(alias, name)
        if lease is None or lease.key in known or host_ifname(lease.key) != name:
            continue
        addresses = [leased.address for leased in lease.addresses]
        if lease.store or any(address in block for address in addresses for block in held):
            found.append(lease)
    return sorted(found, key=lambda lease: lease.key)


def of_store(alias: str, store: str) -> bool:
    """Whether a link says that its lease is of this store."""
    lease = lease_of_alias(alias, "")
    return lease is not None and bool(store) and lease.store == store
