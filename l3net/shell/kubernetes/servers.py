"""The API servers behind the service `kubernetes`, remembered: the way there where nobody translates that.

On a node whose service proxy is l3net itself, the service's address leads nowhere until an agent has heard of
its endpoints. One that has heard of them before knows the way.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from l3net.errors import L3netError
from l3net.model import EndpointSlice, Fact, ObjectName

log = logging.getLogger("l3net.kube")

#: Address and TCP port.
Server: TypeAlias = tuple[str, int]

SERVICE: Final = ObjectName("default", "kubernetes")
#: Its port, by name.
PORT: Final = "https"
#: Seconds for which the configured address is not tried first once it did not answer.
AROUND: Final = 60.0


class ServerMemory(Protocol):
    """Outlives an agent, and a reboot."""

    def read(self) -> Sequence[Server]:
        """Those known last; none if there is nothing, or nothing that can be read."""
        ...

    def write(self, servers: Sequence[Server]) -> None:
        """Raises L3netError."""
        ...


class Servers:
    """`ways` says where to ask, `note` hears of endpoints. From any thread."""

    def __init__(
        self, memory: ServerMemory | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory, self._monotonic = memory, monotonic
        self._lock = threading.Lock()
        self._slices: dict[ObjectName, EndpointSlice] = {}
        self._known: tuple[Server, ...] = tuple(memory.read()) if memory is not None else ()
        self._around_until = 0.0
        self.by = ""  # where it is asked instead; empty: at the configured address

    @property
    def known(self) -> tuple[Server, ...]:
        return self._known

    def note(self, name: ObjectName, fact: Fact | None) -> None:
        """An EndpointSlice as it is now. What is new is written; that none is left, never."""
        ours = isinstance(fact, EndpointSlice) and fact.service == SERVICE
        if self._memory is None or not (ours or name in self._slices):
            return
        if isinstance(fact, EndpointSlice) and ours:
            self._slices[name] = fact
        else:
            self._slices.pop(name, None)
        found = sorted(
            {
                (str(endpoint.address), each.ports[PORT][1])
                for each in self._slices.values()
                if each.ports.get(PORT, ("", 0))[0] == "TCP"
                for endpoint in each.endpoints
                if endpoint.ready
            }
        )
        if not found or tuple(found) == self._known:
            return
        self._known = tuple(found)
        try:
            self._memory.write(found)
        except L3netError as err:
            log.error("%s", err)

    def ways(self, configured: str) -> list[str]:
        """URLs, in the order in which to try them; the configured one is among them."""
        others = [_url(server) for server in self._known]
        if self.by in others:  # the one that answered comes first
            others.sort(key=lambda each: each != self.by)
        first = self._monotonic() >= self._around_until
        return [configured, *others] if first else [*others, configured]

    def arrived(self, configured: str, way: str) -> None:
        """There was an answer by this way."""
        with self._lock:
            before = self.by
            if way == configured:
                self.by, self._around_until = "", 0.0
            else:
                self.by = way
                self._around_until = max(
                    self._around_until, self._monotonic() + AROUND if not before else 0.0
                )
        if before and not self.by:
            log.info("API server %s answers again", configured)
        elif self.by and not before:
            log.warning(
                "API server %s cannot be reached: it is asked at %s, where the service %s had an endpoint",
                *(configured, way, SERVICE),
            )

    def missed(self, configured: str, way: str) -> None:
        """Nobody answers there."""
        if way == configured and self.by:
            with self._lock:
                self._around_until = self._monotonic() + AROUND


def _url(server: Server) -> str:
    address, port = server
    bracketed = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    return f"https://{bracketed}:{port}"
