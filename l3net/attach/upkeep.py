"""Keeps up what the CNI calls made: compares leases, interfaces and rules with one another, and mends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from functools import cache

from l3net.attach import rules as cnirules
from l3net.attach.reaper import Reaper
from l3net.attach.rules import Rules
from l3net.attach.spool import Spool
from l3net.attach.there import host_ends, present
from l3net.attach.verbs import Verbs
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.frame import Call
from l3net.cni.parts import Elements, Held
from l3net.cni.request import parse_request
from l3net.faults import Faults
from l3net.ipam.audit import AuditLook, agreed
from l3net.ipam.lease import LeaseKey, NodeLeases
from l3net.shell.kernel.netlink import Netlink

log = logging.getLogger(__name__)

#: Its name in the status.
RULES_PART = "host port rules"


class Upkeep:
    """Of one store. Every step is to be called in a thread of the namespace."""

    def __init__(self, leases: NodeLeases, reaper: Reaper, faults: Faults, rules: Rules = cnirules) -> None:
        self._rules = rules
        self._leases = leases
        self._reaper = reaper
        self._faults = faults
        self._seen = AuditLook()

    def drain(self, spool: Spool, boot: str, verbs_for: Callable[[Call], Verbs]) -> int:
        """Carry out the DELs that came while no agent served; how many.

        What cannot be read now is left for the next round, what never can goes into quarantine.
        """
        count = 0
        for each in spool.calls(boot):
            try:
                request = parse_request(each.call.environment, each.call.stdin)
            except CniError as err:
                spool.set_aside(each.path, f"{err}")
                continue
            lease = self._leases.find(request.key)
            if lease is None or lease.assigned_clock <= each.at:
                if verbs_for(each.call).answer(each.call, None).exit_code:
                    continue  # stays for the next round
                count += 1
            spool.remove(each.path)
        return count

    def audit(self, netlink: Netlink, verbs: Verbs, contested: Container[str] = ()) -> AuditLook:
        """One look at leases and links; what it and the last look agree on is freed and returned.

        Of the links without a lease only those are looked at that say they are this store's, and none that is
        `contested`: a pod runs there that came after the store was copied.
        """
        now = present(host_ends(netlink), self._leases).apart(self._leases.identity)
        now = AuditLook(now.leases, frozenset(link for link in now.links if link[0] not in contested))
        both, self._seen = agreed(self._seen, now), now
        with self._faults.each("audit of leases") as contained:
            for key, sequence in both.leases:
                log.warning("audit: releasing %s: its interface is gone", key)
                with contained():
                    verbs.remove(self._leases, key, sequence=sequence, event="audit")
        with self._faults.each("audit of interfaces") as contained:
            for name, _ in both.links:
                log.warning("audit: deleting %s: it is of this store and has no lease", name)
                with contained():
                    self._reaper.doom(netlink, name)
        return both

    def mend_rules(self) -> int:
        """Put the rules of attachments back where somebody took them away; of how many attachments."""
        mended, chain = 0, cache(self._rules.listed_chain)
        with self._faults.each(RULES_PART) as contained:
            for key, record in self._leases.records():
                with contained():
                    if self._mended(key, record, chain):
                        mended, chain = mended + 1, cache(self._rules.listed_chain)
        return mended

    def _mended(self, key: LeaseKey, record: str, chain: cnirules.Chain) -> bool:
        """Whether rules of an attachment were missing; they are back then. Raises CniError."""
        try:
            part = Elements.left(Held(key, record=record))
            missing = part is not None and self._rules.missing(part.extras, chain)
            if part is not None and missing:
                self._rules.put(part.extras)
        except Exception as err:
            raise CniError(failure.KERNEL_REFUSED, f"{key.container_id}: {err}") from err
        return bool(missing)
