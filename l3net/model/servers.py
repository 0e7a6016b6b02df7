"""Services as the dataplane needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from l3net.model.terms import Address, Prefix


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: Address
    port: int


#: What a virtual server answers to: address, protocol in lower case, port.
ServerKey: TypeAlias = tuple[Address, str, int]


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One service address and port, and the backends new connections go to on this node.

    No backend: connections are refused. `internal` serve traffic from this node's pods and processes,
    `external` traffic that arrives from other machines; they differ when a traffic policy is Local. A client
    comes back to its backend for `affinity` seconds (0: to any). Only `sources` are served (None: all). Flows
    that began earlier may go on to `lasting` backends, also where new ones do not (told of UDP alone).
    """

    address: Address
    protocol: str  # tcp, udp, sctp
    port: int
    internal: tuple[Backend, ...] = ()
    external: tuple[Backend, ...] = ()
    affinity: int = 0
    sources: tuple[Prefix, ...] | None = None
    lasting: tuple[Backend, ...] = ()

    @property
    def key(self) -> ServerKey:
        """By which it is found."""
        return (self.address, self.protocol, self.port)
