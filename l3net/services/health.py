"""Health checks of services (spec.healthCheckNodePort): how many ready endpoints are on this node.

A load balancer outside asks each node, and sends to those that have some (externalTrafficPolicy Local).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from l3net.model import Address, EndpointSlice, ObjectName, Service
from l3net.services.endpoints import Here
from l3net.services.verdicts import Rank, another_serves, seniority


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What is told on `port`. `local`: each family of the service, and its ready endpoints here."""

    service: ObjectName
    port: int
    local: tuple[tuple[int, int], ...]

    def count(self, version: int) -> int:
        """For who asks over IP `version`: of that family, or where the service has none of it, the most."""
        counts = dict(self.local)
        return counts[version] if version in counts else max(counts.values(), default=0)


def health_check(service: Service, slices: Iterable[EndpointSlice], node: Here) -> HealthCheck | None:
    """None: nobody is told anything of the service. Its endpoints are counted by address, whatever their
    port; those that terminate draw no new connections (as in kube-proxy)."""
    if not service.health_port or another_serves(service):
        return None
    ready: dict[int, set[Address]] = {address.version: set() for address in service.cluster_ips}
    for found in slices:
        for endpoint in found.endpoints:
            well = endpoint.ready or service.publish_not_ready
            if well and endpoint.address.version in ready and node.holds(endpoint):
                ready[endpoint.address.version].add(endpoint.address)
    return HealthCheck(
        service.name, service.health_port, tuple((version, len(each)) for version, each in ready.items())
    )


class HealthBook:
    """The health checks of all services, kept. `put` each service that may be another now."""

    def __init__(self) -> None:
        self._wanted: dict[ObjectName, HealthCheck] = {}
        self._ranks: dict[ObjectName, Rank] = {}
        self._claimants: dict[int, set[ObjectName]] = {}
        self.checks: dict[int, HealthCheck] = {}  # in force, by port
        self.changes = 0  # of the ports that there are

    def put(
        self, name: ObjectName, service: Service | None, slices: Iterable[EndpointSlice], node: Here
    ) -> None:
        """A service as it is now, with its slices; None: it is gone."""
        now = health_check(service, slices, node) if service is not None else None
        before = self._wanted.pop(name, None)
        if now is not None and service is not None:
            self._wanted[name], self._ranks[name] = now, seniority(service)
        else:
            self._ranks.pop(name, None)
        if before is not None and (now is None or now.port != before.port):
            claimants = self._claimants[before.port]
            claimants.discard(name)
            if not claimants:
                del self._claimants[before.port]
            self._settle(before.port)
        if now is not None and now != before:
            self._claimants.setdefault(now.port, set()).add(name)
            self._settle(now.port)

    def _settle(self, port: int) -> None:
        """Of several services with one port, the senior one has it."""
        claimants = self._claimants.get(port)
        before = port in self.checks
        if claimants:
            holder = min(claimants, key=self._ranks.__getitem__)
            self.checks[port] = self._wanted[holder]
        else:
            self.checks.pop(port, None)
        self.changes += before is not bool(claimants)

    def lost(self) -> list[tuple[ObjectName, HealthCheck]]:
        """The services whose port another has, with that one's."""
        return sorted(
            (name, self.checks[port])
            for port, claimants in self._claimants.items()
            if len(claimants) > 1
            for name in claimants
            if name != self.checks[port].service
        )
