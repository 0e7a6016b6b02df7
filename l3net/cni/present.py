"""What is there of attachments: host ends, leases and records, each of which may have lost the others.

GC frees what any of them tells of and the runtime does not; the audit and `l3net ipam check` look for a lease
without its interface and the other way round; and an agent that finds a store that is empty, restored from an
older copy, or another one than before (`--state-dir`), while pods run, adopts what their host ends say of
themselves before anything is handed out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from l3net.cni.host_end import lease_of_alias, mac_of_alias
from l3net.cni.ifname import host_ifname
from l3net.ipam.audit import AuditLook, look
from l3net.ipam.lease import Lease, LeaseKey
from l3net.model import Prefix


@dataclass(frozen=True, slots=True)
class HostEnd:
    """A host end of this node; `lease` and `mac`, its pod's, are what its alias tells,
    None and empty if that is not ours to read or does not say so."""

    name: str
    index: int
    lease: Lease | None
    mac: str = ""

    def of_store(self, store: str) -> bool:
        """Whether it says that its lease is of this store."""
        return self.lease is not None and bool(store) and self.lease.store == store


def host_end(name: str, index: int, alias: str) -> HostEnd:
    """A link by what it is called and what it says."""
    return HostEnd(name, index, lease_of_alias(alias, name), mac_of_alias(alias))


@dataclass(frozen=True, slots=True)
class Present:
    """One look. The host ends are read before the leases: whoever is wired has had a lease before that."""

    ends: tuple[HostEnd, ...] = ()
    leases: tuple[Lease, ...] = ()
    records: tuple[LeaseKey, ...] = ()

    def attachments(self, network: str) -> set[LeaseKey]:
        """The attachments of a network of which anything is there."""
        found = {lease.key for lease in self.leases if lease.key.network == network}
        found.update(key for key in self.records if key.network == network)
        found.update(
            end.lease.key for end in self.ends if end.lease is not None and end.lease.key.network == network
        )
        return found

    def apart(self, store: str) -> AuditLook:
        """Leases without a host end, and host ends of this store without a lease."""
        return look(self.leases, [(end.name, end.index, end.of_store(store)) for end in self.ends])

    def unknown(self, blocks: Iterable[Prefix] = ()) -> list[Lease]:
        """What host ends tell of attachments that have no lease and are an agent's to know.

        Those are the ones an agent's store gave addresses to, whichever it was, and the ones with an address
        out of `blocks`, this node's: an older release did not mark its links. What a plugin without an agent
        or another address management has is theirs.
        """
        known, held = {lease.key for lease in self.leases}, list(blocks)
        found = []
        for end in self.ends:
            lease = end.lease
            if lease is None or lease.key in known or host_ifname(lease.key) != end.name:
                continue
            addresses = [leased.address for leased in lease.addresses]
            if lease.store or any(address in block for address in addresses for block in held):
                found.append(lease)
        return sorted(found, key=lambda lease: lease.key)
