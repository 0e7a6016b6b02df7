"""The guard of the pods' ports as the CNI server keeps it: brought up, kept up, and told of in the status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from l3net.attach.guard import PART, Guard
from l3net.attach.there import guarded_ports
from l3net.cni.guard import Allowed, GuardedPort
from l3net.cni.setup import NodeNetwork
from l3net.faults import Faults
from l3net.ipam.lease import LeaseStoreError, NodeLeases
from l3net.naming import BRIDGE
from l3net.shell.kernel.sandbox import Sandboxes

#: Seconds between two unasked looks.
INTERVAL: Final = 10.0
#: Its name in the status.
SWEEPING: Final = "ports that went"


class Guarding:
    """Every step but `start` is contained: what fails is in the status, and tried again. Each is to be called
    in a thread of the namespace."""

    def __init__(
        self,
        guard: Guard,
        leases: NodeLeases,
        sandboxes: Callable[[], Sandboxes],
        network: Callable[[], NodeNetwork | None],
        faults: Faults,
        unsafe: Callable[[], str] = str,
    ) -> None:
        """`unsafe` says why the leases are not those of all pods that run; empty if they are."""
        self.guard = guard
        self._unsafe = unsafe
        self._leases = leases
        self._sandboxes = sandboxes
        self._network = network
        self._faults = faults
        self._waited = 0.0

    def start(self) -> None:
        """Guard what is attached. Where that fails no pod is attached until it has succeeded."""
        with self._faults.contained(PART):
            self.guard.start(*self._ports())

    def know(self) -> None:
        """Guard what was not known before: leases that were adopted, MACs that neighbours tell by now."""
        with self._faults.contained(PART):
            ports, unguarded = self._ports()
            if self.guard.begun:
                self.guard.know(ports, unguarded)
            else:
                self.guard.start(ports, unguarded)

    def allow(self, allowed: Allowed) -> None:
        """What pods may send from beside their own addresses."""
        with self._faults.contained(PART):
            self.guard.allow(allowed)

    def mend(self) -> None:
        """Put back what somebody took away."""
        self._waited = 0.0
        if not self.guard.begun:
            self.start()
            return
        with self._faults.contained(PART):
            self.guard.mend()

    def keep(self, waited: float, *, audit: bool) -> None:
        """Unasked, now and then; `waited` are the seconds since the last time."""
        self._waited += waited
        with self._faults.contained(SWEEPING):
            self.guard.sweep()
        if self._waited >= INTERVAL or not self.guard.begun:
            self.mend()
        if audit:
            with self._faults.contained(SWEEPING):
                self.prune()
            if self.guard.unguarded:
                self.know()

    def prune(self) -> None:
        """Forget ports that went without a DEL. Whoever is guarded has had a lease before."""
        ports = set(self.guard.ports)
        leased = {lease.host_ifname for lease in self._leases.leases()}
        self.guard.lose(ports - leased)

    def problems(self) -> list[str]:
        """Of pods that are not guarded; failures are the faults' to tell."""
        lacking = self.guard.unguarded
        if not lacking:
            return []
        return [
            f"{PART}: the MAC of {len(lacking)} pods of an older release cannot be told, and so they may send"
            f" from any address of the node: {', '.join(lacking[:5])}; create them again"
        ]

    def _ports(self) -> tuple[list[GuardedPort], list[str]]:
        if why := self._unsafe():
            raise LeaseStoreError(why)
        network = self._network()
        bridge = network.bridge if network is not None else BRIDGE
        return guarded_ports(self._sandboxes().host, self._leases, bridge)
