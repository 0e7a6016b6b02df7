"""What load balancers are told over HTTP: of each service with a healthCheckNodePort, and of the node.

A port that somebody else has stops nothing else: it is named, and tried again, later each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from l3net.agent.servicing import Servicing
from l3net.bgp.drain import Stage
from l3net.errors import KernelError
from l3net.firewall.services import SERVICES
from l3net.model import TO_BE_DELETED, Node
from l3net.ports import HealthAnswer, HealthPorts
from l3net.retry import Backoff
from l3net.services.health import HealthCheck

log = logging.getLogger("l3net.services")

#: Seconds until a port that could not be opened is tried again, doubled from the first to the longest.
FIRST: Final = 1.0
LONGEST: Final = 60.0
#: For so long, in seconds, the table may be other than wanted, or a pass may last, before it is told: a
#: balancer takes the node out for that, and what is in force meanwhile still serves.
LATE: Final = 30.0
#: Ports opened before the loop has its turn.
AT_ONCE: Final = 100
#: Ports that are named one by one in the status.
NAMED: Final = 5


def eligible(node: Node | None, stage: Stage) -> bool:
    """Whether load balancers outside may send to a node at all. One that is not declared may (as with
    kube-proxy), and one that drains until its services are withdrawn."""
    if stage >= Stage.SERVICES_WITHDRAWN:
        return False
    return node is None or not (node.deleting or any(each.key == TO_BE_DELETED for each in node.taints))


class ProxyHealth:
    """Whether services are in force as wanted. `now` is a clock in seconds; `eligible`: whether the node may
    draw traffic at all."""

    def __init__(self, now: Callable[[], float], eligible: Callable[[], bool]) -> None:
        self._now = now
        self._eligible = eligible
        self._well = now()  # when all was in force last
        self._began: float | None = None  # the pass that runs
        self._failing = False

    def begins(self) -> None:
        """A pass."""
        self._began = self._now()

    def ends(self, *, well: bool) -> None:
        """It has; `well`: with the table as wanted."""
        self._began, self._failing = None, not well
        if well:
            self._well = self._now()

    @property
    def healthy(self) -> bool:
        """While nothing is amiss for longer than is forgiven. So it is while the agent starts: what the one
        before it left in the kernel is in force."""
        now = self._now()
        if self._began is not None and now - self._began > LATE:
            return False
        return not self._failing or now - self._well <= LATE

    def of_node(self, path: str, _version: int) -> HealthAnswer | None:
        """As kube-proxy answers by its port 10256."""
        if path not in ("/healthz", "/livez"):
            return None
        healthy, may = self.healthy, self._eligible()
        age = 0.0 if healthy else self._now() - self._well
        if path == "/livez":
            return HealthAnswer(healthy, age=age)
        return HealthAnswer(healthy and may, {"nodeEligible": may}, age=age)

    def of_service(self, check: HealthCheck | None, version: int) -> HealthAnswer | None:
        """As kube-proxy answers by a service's healthCheckNodePort."""
        if check is None:
            return None
        count, healthy = check.count(version), self.healthy
        named = {"namespace": check.service.namespace, "name": check.service.name}
        return HealthAnswer(
            count > 0 and healthy,
            {"service": named, "localEndpoints": count, "serviceProxyHealthy": healthy},
            {"X-Load-Balancing-Endpoint-Weight": str(count)},
        )


class HealthChecks:
    """Told of each pass, `run` opens and closes ports. `own_port` is that of the node, 0 for none."""

    def __init__(
        self, ports: HealthPorts, own_port: int, services: Servicing, eligible: Callable[[], bool]
    ) -> None:
        self._ports, self._own_port, self._services = ports, own_port, services
        self._book = services.book.health
        self._now = asyncio.get_running_loop().time
        self._awake = asyncio.Event()
        self._seen: object = None
        self._withheld: set[int] = set()  # which the node itself answers for something else
        self._wanted: set[int] = set()
        self._refused: dict[int, str] = {}
        self._backoff: Backoff[int] = Backoff(FIRST, LONGEST)
        self.health = ProxyHealth(self._now, eligible)
        self.opened: set[int] = set()

    def answer_for_node(self) -> None:
        """Of the node alone, before it is known which services there are."""
        if self._own_port:
            self._wanted.add(self._own_port)
            self._awake.set()

    def pass_ends(self, *, failed: bool) -> None:
        """The services may be others now, and in force or not."""
        self.health.ends(well=not failed and not self._services.table.refusal(SERVICES.name))
        serving = self._services.serving
        own = self._services.own_ports
        if (seen := (serving, self._book.changes, own)) != self._seen:
            self._seen = seen
            # BGP's listener may come later, and must find its port free.
            taken = {port for protocol, port in own if protocol == "tcp"}
            checks = set(self._book.checks) if serving else set[int]()
            self._wanted, self._withheld = checks - taken, checks & taken
            if serving and self._own_port:
                self._wanted.add(self._own_port)
            self._awake.set()

    async def run(self) -> None:
        """Until cancelled: then all ports are closed."""
        try:
            while True:
                self._awake.clear()
                await self._follow()
                due = self._backoff.next_due()
                try:
                    async with asyncio.timeout_at(due):
                        await self._awake.wait()
                except TimeoutError:
                    pass
        finally:
            for port in list(self.opened):
                self._close(port)

    async def _follow(self) -> None:
        for port in self.opened - self._wanted:
            self._close(port)
        for port in [each for each in self._refused if each not in self._wanted]:
            self._over(port)
        due = [port for port in self._wanted - self.opened if not self._backoff.waits(port, self._now())]
        for number, port in enumerate(sorted(due), start=1):
            await self._open(port)
            if not number % AT_ONCE:
                await asyncio.sleep(0)

    async def _open(self, port: int) -> None:
        def told(path: str, version: int) -> HealthAnswer | None:
            if port == self._own_port:
                return self.health.of_node(path, version)
            return self.health.of_service(self._book.checks.get(port), version)

        try:
            await self._ports.listen(port, told)
        except KernelError as err:
            if self._refused.get(port) != str(err):
                log.error("health check: %s", err)
            self._refused[port] = str(err)
            self._backoff.failed(port, self._now())
        else:
            self.opened.add(port)
            self._over(port)

    def _close(self, port: int) -> None:
        self.opened.discard(port)
        self._ports.close(port)

    def _over(self, port: int) -> None:
        if (why := self._refused.pop(port, None)) is not None:
            log.info("resolved: health check: %s", why)
        self._backoff.forget(port)

    @property
    def refused(self) -> int:
        """Ports that could not be opened."""
        return len(self._refused)

    def problems(self) -> list[str]:
        """A sentence for each port that is not answered, and for each service that has none of its own."""
        found = [f"health check of {self._of(port)}: {self._refused[port]}" for port in sorted(self._refused)]
        if self._wanted:
            found += [
                f"service {name}: healthCheckNodePort {check.port} is answered for {check.service}, "
                "which had it first"
                for name, check in self._book.lost()
            ]
            found += self._clashes()
        more = [f"health checks: {len(found) - NAMED} more like these"] * (len(found) > NAMED)
        return found[:NAMED] + more

    def _clashes(self) -> Iterator[str]:
        """Of ports that are something else's as well."""
        for port, check in sorted(self._book.checks.items()):
            named = f"service {check.service}: healthCheckNodePort {port}"
            if port in self._withheld:
                yield f"{named} is not answered: the node itself answers to that number"
            elif self._services.is_node_port("tcp", port):
                yield f"{named} is a NodePort as well, which comes first"

    def _of(self, port: int) -> str:
        if port == self._own_port:
            return "the node (--health-port)"
        check = self._book.checks.get(port)
        return str(check.service) if check else f"port {port}"
