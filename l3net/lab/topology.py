"""A lab's topology: what there is, how it is linked and numbered. Frozen values, free of I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TypeAlias

from l3net.model import Address, Prefix

InterfaceAddress: TypeAlias = IPv4Interface | IPv6Interface


class RouterKind(enum.Enum):
    """The software a router runs."""

    FRR = "frr"
    BIRD = "bird"
    GOBGP = "gobgp"
    OPENBGPD = "openbgpd"
    L3NET = "l3net"


@dataclass(frozen=True, slots=True)
class Router:
    name: str
    as_number: int
    kind: RouterKind = RouterKind.FRR


@dataclass(frozen=True, slots=True)
class Node:
    """A cluster node: the blocks its pods' addresses come from, and the pods it runs."""

    name: str
    blocks: tuple[Prefix, ...]
    pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A machine outside the cluster, without BGP: it has a default route to each router it is linked to."""

    name: str


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link. `interface` is the link's name on `host`; an address carries its subnet's length."""

    host: str
    interface: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A point-to-point link, numbered from a subnet of each family in use."""

    ends: tuple[End, End]

    def end(self, host: str) -> End:
        return self.ends[0] if self.ends[0].host == host else self.ends[1]

    def far_end(self, host: str) -> End:
        return self.ends[1] if self.ends[0].host == host else self.ends[0]

    @property
    def subnets(self) -> tuple[Prefix, ...]:
        return tuple(address.network for address in self.ends[0].addresses)


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    cidr: Prefix
    block_size: int
    nat_outgoing: bool = False


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service in namespace `default`, backed by pods of this topology."""

    name: str
    cluster_ips: tuple[Address, ...]
    pods: tuple[str, ...]
    port: int = 80
    internal_local: bool = False  # internalTrafficPolicy: Local


@dataclass(frozen=True, slots=True)
class BgpSession:
    """A session as one of its two speakers sees it."""

    local: Address
    remote: Address
    remote_as: int
    remote_host: str
    interface: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything a lab is made of. Sequences keep the order of the file."""

    as_number: int
    routers: tuple[Router, ...]
    nodes: tuple[Node, ...]
    clients: tuple[Client, ...]
    links: tuple[Link, ...]
    pools: tuple[Pool, ...]
    services: tuple[ServiceSpec, ...]
    service_cidrs: tuple[Prefix, ...]
    mesh: bool = True

    @property
    def hosts(self) -> tuple[str, ...]:
        return (
            *(client.name for client in self.clients),
            *(router.name for router in self.routers),
            *(node.name for node in self.nodes),
        )

    @property
    def pods(self) -> dict[str, Node]:
        """The node of each pod."""
        return {pod: node for node in self.nodes for pod in node.pods}

    @property
    def versions(self) -> tuple[int, ...]:
        """IP versions in use."""
        return tuple(sorted({subnet.version for link in self.links for subnet in link.subnets}))

    def router(self, name: str) -> Router | None:
        return next((router for router in self.routers if router.name == name), None)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)

    def links_of(self, host: str) -> tuple[Link, ...]:
        return tuple(link for link in self.links if host in (link.ends[0].host, link.ends[1].host))

    def link_subnets(self, host: str, version: int | None = None) -> tuple[Prefix, ...]:
        """Of the links of a host, in their order: what a router announces as its own. None: of both
        families."""
        return tuple(
            subnet
            for link in self.links_of(host)
            for subnet in link.subnets
            if version in {None, subnet.version}
        )

    def addresses(self, host: str) -> tuple[Address, ...]:
        """Every link address of a host, in the order of its links."""
        return tuple(address.ip for link in self.links_of(host) for address in link.end(host).addresses)

    def address(self, host: str, version: int) -> Address:
        """A host's address of one family: that of its first link, which is a node's InternalIP."""
        return next(address for address in self.addresses(host) if address.version == version)

    def as_number_of(self, host: str) -> int | None:
        router = self.router(host)
        if router is not None:
            return router.as_number
        return self.as_number if self.node(host) is not None else None

    def sessions(self, host: str) -> tuple[BgpSession, ...]:
        """The BGP sessions a host has over its links, one a family, as it sees them.

        Routers speak to every neighbour that has an AS; nodes to their routers (their mesh is l3net's own).
        """
        if self.as_number_of(host) is None:
            return ()
        found: list[BgpSession] = []
        for link in self.links_of(host):
            near, far = link.end(host), link.far_end(host)
            far_as = self.as_number_of(far.host)
            if far_as is None:
                continue
            found += [
                BgpSession(mine.ip, theirs.ip, far_as, far.host, near.interface)
                for mine, theirs in zip(near.addresses, far.addresses, strict=True)
            ]
        return tuple(found)

    def router_id(self, host: str) -> str:
        """A BGP identifier that exists without IPv4 too (RFC 6286: any number unique in the AS)."""
        number = self.hosts.index(host) + 1
        return f"10.255.{number // 256}.{number % 256}"
