"""Takes running attachments that the lease store does not know into it, before an address is handed out."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
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
        #: By host interface: what runs, and has an address that the store gave to another.
        self.contested: Mapping[str, str] = {}

    @property
    def store(self) -> str:
        """Which it is."""
        return self._store.identity

    @property
    def conflicts(self) -> tuple[str, ...]:
        return tuple(self.contested.values())

    def problems(self) -> list[str]:
        """For the status."""
        found = [f"leases: {each}" for each in self.conflicts]
        return [*found, f"leases: {self.problem}; no pod can be added"] if self.problem else found

    def adopt(
        self, netlink: Netlink, blocks: Iterable[Prefix] = (), only: Container[str] | None = None
    ) -> None:
        """Adopt what an agent gave addresses to, and what has one out of `blocks`; `only`: of these host
        interfaces. Raises KernelError.

        A store that takes nothing now is a `problem`, tried again by the next call.
        """
        ends = host_ends(netlink)
        unknown = Present(ends, tuple(self._store.leases()) if ends else ()).unknown(blocks)
        if only is not None:
            unknown = [lease for lease in unknown if lease.host_ifname in only]
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
        contested, adopted = {}, 0
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
            contested[lease.host_ifname] = (
                f"interface {lease.host_ifname} ({lease.key.network} {lease.key.container_id} "
                f"{lease.key.ifname}) has {', '.join(str(each.address) for each in lease.addresses)}, which "
                f"the lease store gave to {', '.join(sorted(holders))} as well: delete one of the two pods"
            )
        for text in set(contested.values()) - set(self.conflicts):
            log.error("%s", text)
        self.contested = contested
        self.adopted += adopted
        if adopted:
            log.warning(
                "adopted %d running attachments that the lease store did not know; is this the --state-dir "
                "of before?",
                adopted,
            )


def told(adoption: Adoption | None) -> dict[str, Any]:
    """Figures for the status; None before the start."""
    return {
        "store": adoption.store if adoption is not None else "",
        "adopted": adoption.adopted if adoption is not None else 0,
        "conflicts": len(adoption.contested) if adoption is not None else 0,
    }


def record_extras(store: LeaseStore, ruleset: Sequence[Mapping[str, Any]], lease: Lease) -> None:
    """Record what the tables hold for an attachment: without, DEL would leave a published port taken."""
    addresses = [str(leased.address) for leased in lease.addresses]
    if extras := extras_in(ruleset, lease.host_ifname, addresses):
        store.keep_record(lease.key, extras.encode())
