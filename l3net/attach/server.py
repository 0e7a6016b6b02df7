"""The agent's side of the CNI socket: accepts the thin client, carries out its calls on a few threads."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from l3net.attach.admitting import attached, attachment
from l3net.attach.adopting import Adoption, told
from l3net.attach.callsocket import CallSocket
from l3net.attach.guard import Guard
from l3net.attach.guarding import Guarding
from l3net.attach.ipam_verbs import IpamVerbs
from l3net.attach.reaper import Reaper
from l3net.attach.setups import Setups
from l3net.attach.shells import KERNEL, AttachShells
from l3net.attach.spool import Spool
from l3net.attach.upkeep import Upkeep
from l3net.attach.verbs import Verbs
from l3net.cni.extras import Extras
from l3net.cni.frame import Call
from l3net.cni.guard import Allowed
from l3net.cni.setup import NodeNetwork
from l3net.errors import L3netError
from l3net.faults import Faults
from l3net.ipam.audit import AuditLook
from l3net.ipam.lease import Usage
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.metering.histogram import Histogram
from l3net.model import Prefix
from l3net.naming import LEASE_DB
from l3net.policy.attached import Attached
from l3net.ports import Admission
from l3net.shell.kernel.bridge import of_bridge
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.sandbox import Sandboxes

log = logging.getLogger(__name__)

WORKERS: Final = 8
#: Seconds ADD waits for the agent's first pass.
FIRST_PASS_WAIT: Final = 5.0
#: Seconds between two looks of the audit; what both agree on is freed.
AUDIT_INTERVAL: Final = 60.0
#: Seconds between two looks into the spool while serving.
SPOOL_INTERVAL: Final = 2.0
#: Its name in the status.
SPOOL_PART: Final = "spooled deletions"


class CniServer:
    """Owns the lease store, the reaper and the threads. The thread that calls start() gives the namespace.

    `update` hands over what the agent knows; until the first one ADD waits a little, then answers 11.
    """

    def __init__(
        self,
        socket_path: Path,
        state_dir: Path,
        *,
        shells: AttachShells = KERNEL,
        workers: int = WORKERS,
        first_pass_wait: float = FIRST_PASS_WAIT,
        audit_interval: float = AUDIT_INTERVAL,
    ) -> None:
        self._path = socket_path
        self._shells = shells
        self._state_dir = state_dir
        self._workers = workers
        self._audit_interval = audit_interval
        self._threads = shells.threads
        self._stopping = self._threads.event()
        self._guard_seen = self._threads.event()  # somebody else changed its table
        self._guarding: Guarding | None = None
        self._local = threading.local()
        self.faults = Faults()
        self._spool = Spool(state_dir, self.faults)
        self._adoption: Adoption | None = None
        self._undo = contextlib.ExitStack()
        #: Called, from any thread, with the name of a pool that a pod needs and the node has no block of.
        self.on_missing: Callable[[str], None] = lambda _pool: None
        #: Asked before a pod is wired; none: nobody enforces policies.
        self.admission: Admission | None = None
        self._setups = Setups(first_pass_wait, self._unsafe, self._missing, self._threads, self._path.parent)
        self.hold, self.release = self._setups.hold, self._setups.release

    def start(self) -> None:
        """Open the store, free what a reboot left, listen. Raises LeaseStoreError, KernelError."""
        with contextlib.ExitStack() as undo:
            self._home = open_own()
            undo.callback(os.close, self._home)
            self.leases = self._shells.leases(self._state_dir / LEASE_DB)
            undo.callback(self.leases.close)
            for lease in self.leases.release_other_boots():
                log.info("released %s: made before the last reboot", lease.key)
            self._reaper = Reaper(self._home, self.faults, self._threads, self._shells.opened)
            self._reaper.start()
            undo.callback(self._reaper.stop)
            self._adopt()
            guard = Guard(self._shells.guard(), self._threads)
            undo.callback(guard.close)
            setups = self._setups
            self._guarding = Guarding(
                guard, self.leases, self._sandboxes, lambda: setups.network, self.faults, self._unsafe
            )
            self._guarding.start()
            flush = self._shells.flush(self._home, self.faults)
            flush.start()
            undo.callback(flush.stop)
            self._upkeep = Upkeep(self.leases, self._reaper, self.faults, self._shells.rules)
            self.verbs = Verbs(
                lambda _: self.leases,
                self._sandboxes,
                setups.of_call,
                self._reaper,
                flush,
                self.faults,
                lambda: self.admission,
                guard,
                self._shells.rules,
                self._threads,
            )
            self.ipam = IpamVerbs(
                lambda _: self.leases,
                self._sandboxes,
                setups.of_ipam_call,
                None,
                flush,
                self.faults,
                rules=self._shells.rules,
                threads=self._threads,
            )
            self._bridge = self._shells.bridge()
            undo.callback(self._bridge.close)
            with self.faults.contained(SPOOL_PART):
                self.drain_spool()  # before any new call of the same attachments
            keeper = self._threads.start(
                lambda: self.faults.supervised("upkeep of pods", self._keep, self._stopping), "cni-keeper"
            )
            undo.callback(keeper.join, 10)
            undo.callback(self._guard_seen.set)
            undo.callback(self._stopping.set)
            calls = CallSocket(
                self._path,
                self._verbs_for,
                self._enter,
                self._stopping,
                self.faults,
                self._threads,
                self._shells.listen,
            )
            undo.callback(calls.close)
            calls.start(self._workers)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Stop accepting, finish what is under way, close everything."""
        self._undo.close()

    def update(self, network: NodeNetwork) -> None:
        """Exchange what is known of the node, as a whole. In a thread of the namespace.

        What runs with an address of a new block is known before one of it is handed out.
        """
        known = self._setups.network
        if _blocks(network) != (_blocks(known) if known is not None else ()):
            self._adopt(network)
            if self._guarding is not None:
                self._guarding.know()
        self._setups.know(network)

    def allow(self, allowed: Allowed) -> None:
        """Exchange what pods may send from beside their own addresses, as a whole: in force at once, and for
        pods to come before their ports are. In a thread of the namespace."""
        if self._guarding is not None:
            self._guarding.allow(allowed)

    def guard_touched(self) -> None:
        """Somebody else may have changed the table `bridge l3net`: look at once. From any thread."""
        self._guard_seen.set()

    @property
    def guard_port(self) -> int:
        """The netlink port by which notices of this server's own changes of that table are told; 0: none."""
        return self._guarding.guard.port if self._guarding is not None else 0

    @property
    def network(self) -> NodeNetwork | None:
        """What is known of the node."""
        return self._setups.network

    def _unsafe(self) -> str:
        """Why no address may be handed out now; empty if one may."""
        return self._adoption.problem if self._adoption is not None else ""

    def _missing(self, pool: str) -> None:
        self.on_missing(pool)  # as it is set by now

    def _verbs_for(self, call: Call) -> Verbs:
        return self.ipam if call.for_ipam else self.verbs

    def _adopt(self, network: NodeNetwork | None = None, only: Container[str] | None = None) -> None:
        if self._adoption is None:
            self._adoption = Adoption(self.leases, self._shells.rules)
        adoption, before = self._adoption, self._adoption.problem
        try:
            adoption.adopt(self._sandboxes().host, _blocks(network) if network is not None else (), only)
        except L3netError as err:
            adoption.problem = f"cannot tell which addresses running pods have: {err}"
        if adoption.problem and adoption.problem != before:
            log.error("%s", adoption.problem)

    def problems(self) -> list[str]:
        """What an operator has to know of the pods' side."""
        found = []
        if self._adoption is not None:
            found += self._adoption.problems()
            with self.faults.contained("asking the lease store"):
                found += self._full()
        if self._guarding is not None:
            found += self._guarding.problems()
        found += [f"{fault.part}: {fault.last}" for fault in self.faults.found() if fault.lasting]
        return found

    def _full(self) -> list[str]:
        """A sentence for each family whose blocks have no address left."""
        network, found = self._setups.network, []
        if network is None:
            return []
        pools = [
            (f" of IPPool {pool.name}", block_sets(pool.blocks, network.reserved)) for pool in network.pools
        ]
        for whose, sets in [("", block_sets(network.blocks, network.reserved)), *pools]:
            for each in sets:
                usage = self.usage(each)
                if usage.leased + usage.cooling >= each.size:
                    found.append(
                        f"leases: no address free in {each}{whose}: {usage.leased} leased, {usage.cooling} "
                        "in cool-down; new pods wait until one is, or the node gets another block"
                    )
        return found

    def timings(self) -> Mapping[str, Histogram]:
        """How long the phases of ADD took; nothing before the start."""
        return self.verbs.timings if self._adoption is not None else {}

    def status(self) -> dict[str, Any]:
        """Figures of the pods' side, from any thread."""
        return {
            "leases": self.attachments(),
            **told(self._adoption),
            "quarantined": self._spool.quarantined(),
            "faults": [asdict(fault) for fault in self.faults.found()],
        }

    def reattach_ports(self) -> list[str]:
        """Put the host ends of all leases back on the bridge, and what the node knows of them; to be called
        after the bridge was applied."""
        moved: list[str] = []
        if (network := self._setups.network) is not None:
            with self.faults.contained("keeping interfaces on the bridge"):
                moved = self._bridge.attach_ports(network.bridge, self.leases.leases)
        return moved

    def holds(self, block: Prefix) -> bool:
        """Whether an address of a block is leased; where that cannot be told, it is taken to be."""
        with self.faults.contained("asking the lease store"):
            return self.leases.any_in(block)
        return True

    def attachments(self, block: Prefix | None = None) -> int:
        """How many have addresses, in all or in a block; 0 where that cannot be told."""
        if self._adoption is None:
            return 0
        with self.faults.contained("asking the lease store"):
            return self.leases.count(block)
        return 0

    def attached(self) -> Iterable[tuple[str, Attached]]:
        """The attachments that policies are for, each by a key: pods of the node's bridge."""
        records = dict(self.leases.records())
        ports = self._guarding.guard.ports if self._guarding is not None else {}
        for lease in self.leases.leases():
            if lease.host_ifname and lease.addresses and of_bridge(lease):
                addresses = [leased.address for leased in lease.addresses]
                guarded = ports.get(lease.host_ifname)
                mac = guarded.mac if guarded is not None else ""
                labels = _labels(records.get(lease.key))
                yield attachment(lease.key), attached(lease.key, lease.pod, addresses, labels, mac)

    def usage(self, sets: RangeSet) -> Usage:
        """Leased and cooling addresses of a set, of all networks. Raises LeaseStoreError."""
        return self.leases.usage(None, (sets,))

    def settle(self) -> bool:
        """Wait until the links of all released attachments are gone."""
        return self._reaper.flush()

    def drain_spool(self) -> int:
        """Carry out the DELs that came while no agent served; how many. In a thread of the namespace."""
        return self._upkeep.drain(self._spool, self._shells.boot(), self._verbs_for)

    def audit(self) -> AuditLook:
        """One look at leases and links; what it and the last look agree on is freed and returned."""
        contested = self._adoption.contested if self._adoption is not None else {}
        found = self._upkeep.audit(self._sandboxes().host, self.verbs, contested)
        if contested:  # the other's lease may be free by now
            self._adopt(self._setups.network, contested)
        return found

    def mend_rules(self) -> int:
        """Put the rules of attachments back where somebody took them away; of how many attachments."""
        return self._upkeep.mend_rules()

    # --- threads -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        self._shells.enter(self._home)

    def _keep(self) -> None:
        """Now and then: the spool, the guard, and the audit."""
        self._enter()
        waited = 0.0
        guarding = self._guarding
        while not self._stopping.is_set():
            if self._guard_seen.wait(SPOOL_INTERVAL):
                self._guard_seen.clear()
                if guarding is not None and not self._stopping.is_set():
                    guarding.mend()
                continue
            waited += SPOOL_INTERVAL
            steps: list[tuple[str, Callable[[], object]]] = [(SPOOL_PART, self.drain_spool)]
            if self._unsafe():
                steps.append(("adopting running pods", lambda: self._adopt(self._setups.network)))
            audit = waited >= self._audit_interval
            if audit:
                waited = 0.0
                steps += [("audit", self.audit), ("upkeep of host ports", self.mend_rules)]
            for part, step in steps:
                with self.faults.contained(part):
                    step()
            if guarding is not None:
                guarding.keep(SPOOL_INTERVAL, audit=audit)

    def _sandboxes(self) -> Sandboxes:
        found: Sandboxes | None = getattr(self._local, "sandboxes", None)
        if found is None:
            found = self._local.sandboxes = self._shells.sandboxes(self._home)
        return found


def _labels(record: str | None) -> list[tuple[str, str]]:
    """Those that the runtime told at ADD."""
    return sorted(Extras.decode(record).labels.items()) if record else []


def _blocks(network: NodeNetwork) -> tuple[Prefix, ...]:
    """All of the node, those for the pods of some namespaces too."""
    return (*network.blocks, *(block for pool in network.pools for block in pool.blocks))
