"""Takes running attachments that the lease store does not know into it, before an address is handed out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l3net.attach import rules as cnirules
from l3net.attach.rules import Rules
from l3net.attach.there import host_ends
from l3net.cni.extras import extras_in
from l3net.cni.present import Present
from l3net.ipam.lease import Lease, LeaseStore, LeaseStoreError, NodeLeases
from l3net.model import Prefix
from l3net.shell.kernel.netlink import Netlink

log = logging.getLogger(__name__)


class Adoption:
    """Of one store. `problem` says why running pods' addresses are not safe yet; empty when they are."""

    def __init__(self, store: NodeLeases, rules: Rules = cnirules) -> None:
        self._store = store
        self._tables = rules
        self.problem = ""
        self._rules: list[dict[str, Any]] | None = None
        self.adopted = 0
        self.conflicts: tuple[str, ...] = ()

    def adopt(self, netlink: Netlink, blocks: Iterable[Prefix] = ()) -> None:
        """Adopt what an agent gave addresses to, and what has one out of `blocks`. Raises KernelError.

        A store that takes nothing now is a `problem`, tried again by the next call.
        """
        ends = host_ends(netlink)
        unknown = Present(ends, tuple(self._store.leases()) if ends else ()).unknown(blocks)
        self._rules = None
        try:
            self._record(unknown)
        except LeaseStoreError as err:
            self.problem = (
                f"the addresses of {len(unknown)} running pods are not in the lease store, and it takes "
                f"nothing: {err}"
            )
            return
        self.problem = ""

    def _record(self, unknown: Sequence[Lease]) -> None:
        conflicts, adopted = [], 0
        for lease in unknown:
            full = all(each.prefix_length == each.address.max_prefixlen for each in lease.addresses)
            if self._store.adopt(lease, event="adopt", exclusive=full):  # the node's, not a network's own
                adopted += 1
                if self._rules is None:
                    self._rules = self._tables.listed()
                record_extras(self._store, self._rules, lease)
                continue
            holders = {
                f"{holder.key.container_id} {holder.key.ifname}"
                for leased in lease.addresses
                for holder in self._store.holder(leased.address)
            }
            conflicts.append(
                f"interface {lease.host_ifname} ({lease.key.network} {lease.key.container_id} "
                f"{lease.key.ifname}) has {', '.join(str(each.address) for each in lease.addresses)}, which "
                f"the lease store gave to {', '.join(sorted(holders))} as well: delete one of the two pods"
            )
        for text in set(conflicts) - set(self.conflicts):
            log.error("%s", text)
        self.conflicts = tuple(conflicts)
        self.adopted += adopted
        if adopted:
            log.warning(
                "adopted %d running attachments that the lease store did not know; is this the --state-dir "
                "of before?",
                adopted,
            )


def record_extras(store: LeaseStore, ruleset: Sequence[Mapping[str, Any]], lease: Lease) -> None:
    """Record what the tables hold for an attachment: without, DEL would leave a published port taken."""
    addresses = [str(leased.address) for leased in lease.addresses]
    if extras := extras_in(ruleset, lease.host_ifname, addresses):
        store.keep_record(lease.key, extras.encode())
