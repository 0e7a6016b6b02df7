"""The audit: which leases have lost their pod, judged only on two looks that agree.

A lease whose host link is gone is suspect: the kernel destroys a veth pair with the pod's namespace. It is
released only when a look one grace time later finds the same lease (same sequence) still without its link,
because an ADD under way has its lease before its link, and a link may be made anew. Links without a lease are
judged the same way, but only those that say themselves that they are of this store: that a store has no
record of a link proves nothing, for attachments of other stores, with another plugin's addresses or without
any are wired alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from l3net.ipam.lease import Lease, LeaseKey


@dataclass(frozen=True, slots=True)
class AuditLook:
    """One look: leases without a link (with their sequence), and links of this store's without a lease."""

    leases: frozenset[tuple[LeaseKey, int]] = frozenset()
    links: frozenset[tuple[str, int]] = frozenset()  # name and index


def look(leases: Iterable[Lease], links: Iterable[tuple[str, int, bool]]) -> AuditLook:
    """Compare leases with the links that exist, as (name, index, whether it says it is of this store)."""
    held = list(leases)
    seen = list(links)
    names = {name for name, _, _ in seen}
    expected = {lease.host_ifname for lease in held}
    return AuditLook(
        # a lease without host link was given to another plugin (l3net-ipam): nothing to compare it with
        frozenset(
            (lease.key, lease.sequence)
            for lease in held
            if lease.host_ifname and lease.host_ifname not in names
        ),
        frozenset((name, index) for name, index, ours in seen if ours and name not in expected),
    )


def agreed(first: AuditLook, second: AuditLook) -> AuditLook:
    """What both looks say."""
    return AuditLook(first.leases & second.leases, first.links & second.links)
