"""Services as the dataplane needs them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from l3net.model.terms import Address, Prefix


class Backend(NamedTuple):
    """Where an endpoint takes connections. A tuple, as ObjectName."""

    address: Address
    port: int


#: What stands for the node's addresses that NodePorts are on, by family.
NODE_PORTS: Final[dict[int, Address]] = {4: IPv4Address(0), 6: IPv6Address(0)}


@dataclass(frozen=True, slots=True, order=True)
class Placed:
    """A backend, and the node that it is on; empty: none that is known."""

    backend: Backend
    node: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Endpoints among which every node chooses alike for traffic from outside.

    `ready` take new connections, at least one. `others` are declared too and may have old ones.
    """

    ready: tuple[Placed, ...]
    others: tuple[Placed, ...] = ()


#: What a virtual server answers to: address, protocol in lower case, port.
ServerKey: TypeAlias = tuple[Address, str, int]


def is_node_port(key: ServerKey) -> bool:
    """Whether it is a NodePort's."""
    return not int(key[0])


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One service address and port, and the backends new connections go to on this node.

    The unspecified address (NODE_PORTS) stands for those of the node that NodePorts are on, however many.

    No backend: connections are refused. `internal` serve traffic from this node's pods and processes,
    `external` traffic that arrives from other machines; they differ when a traffic policy is Local. A client
    comes back to its backend for `affinity` seconds (0: to any). Only `sources` are served (None: all). Flows
    that began earlier may go on to `lasting` backends, also where new ones do not (not told of TCP). With
    `spread`, every node has traffic from outside meet the same endpoint, wherever that is.
    """

    address: Address
    protocol: str  # tcp, udp, sctp
    port: int
    internal: tuple[Backend, ...] = ()
    external: tuple[Backend, ...] = ()
    affinity: int = 0
    sources: tuple[Prefix, ...] | None = None
    lasting: tuple[Backend, ...] = ()
    spread: Spread | None = None

    @property
    def key(self) -> ServerKey:
        """By which it is found."""
        return (self.address, self.protocol, self.port)

    @property
    def on_node(self) -> bool:
        """Whether it is a NodePort."""
        return is_node_port(self.key)
