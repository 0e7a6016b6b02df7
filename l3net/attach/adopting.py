"""Takes running attachments that the lease store does not know into it, before an address is handed out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from l3net.attach import rules as cnirules
from l3net.attach.reaper import DOOMED_GROUP
from l3net.cni.adoption import unknown_attachments
from l3net.cni.extras import extras_in
from l3net.ipam.lease import Lease, LeaseStoreError
from l3net.model import Prefix
from l3net.naming import VETH_PREFIX
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel import links
from l3net.shell.kernel.netlink import Netlink

log = logging.getLogger(__name__)


class Adoption:
    """Of one store. `problem` says why running pods' addresses are not safe yet; empty when they are."""

    def __init__(self, store: SqliteLeases) -> None:
        self._store = store
        self.problem = ""
        self._rules: list[dict[str, Any]] | None = None
        self.adopted = 0
        self.conflicts: tuple[str, ...] = ()

    def adopt(self, netlink: Netlink, blocks: Iterable[Prefix] = ()) -> None:
        """Adopt what an agent gave addresses to, and what has one out of `blocks`. Raises KernelError.

        A store that takes nothing now is a `problem`, tried again by the next call.
        """
        found = [
            (link.name, link.alias)
            for link in links.all_links(netlink)
            if link.name.startswith(VETH_PREFIX) and link.alias and link.group != DOOMED_GROUP
        ]
        known = {lease.key for lease in self._store.leases()} if found else set()
        unknown = unknown_attachments(found, known, blocks)
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

    def _record_extras(self, lease: Lease) -> None:
        """What DEL has to undo beside the interface: without a record, a published port stays taken."""
        if self._rules is None:
            self._rules = cnirules.listed()
        addresses = [str(leased.address) for leased in lease.addresses]
        if extras := extras_in(self._rules, lease.host_ifname, addresses):
            self._store.keep_record(lease.key, extras.encode())

    def _record(self, unknown: Sequence[Lease]) -> None:
        conflicts, adopted = [], 0
        for lease in unknown:
            full = all(each.prefix_length == each.address.max_prefixlen for each in lease.addresses)
            if self._store.adopt(lease, event="adopt", exclusive=full):  # the node's, not a network's own
                adopted += 1
                self._record_extras(lease)
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
