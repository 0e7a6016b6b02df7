"""The holdings that follow from a declared state as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from l3net.addresses import host_prefix
from l3net.floating.book import FloatingBook, Taken
from l3net.floating.entitled import floating_pools
from l3net.floating.holding import Holding, Reason
from l3net.model import (
    Address,
    BgpPeer,
    ClusterState,
    DrainPolicy,
    IpPool,
    Labels,
    Node,
    ObjectName,
    Pod,
    Prefix,
    Service,
    node_addresses,
)


def book_of(state: ClusterState, taken: Taken | None = None) -> FloatingBook:
    """A book of everything that a state declares, settled."""
    if not state.floating and not floating_pools(state.pools.values()):
        return FloatingBook()  # nobody can have one
    book = FloatingBook(taken or taken_in(state))
    fill(book, state)
    book.settle()
    return book


class Book(Protocol):
    """What decides by more than its own claims: a FloatingBook, an EgressBook."""

    def put_pools(self, pools: Iterable[IpPool]) -> None: ...

    def drain_by(self, drain: DrainPolicy) -> None: ...

    def put_namespace(self, name: str, labels: Labels) -> None: ...

    def put_node(self, name: str, node: Node) -> None: ...

    def put_pod(self, name: ObjectName, pod: Pod) -> None: ...


def fill(book: FloatingBook, state: ClusterState) -> None:
    """Put everything in that a state declares."""
    put_others(book, state)
    for key, floating in state.floating.items():
        book.put_floating(key, floating)


def put_others(book: Book, state: ClusterState) -> None:
    """Put everything in but the claims."""
    follow(book, state)
    for name, namespace in state.namespaces.items():
        book.put_namespace(name, namespace.labels)
    for name, node in state.nodes.items():
        book.put_node(name, node)
    for key, pod in state.pods.items():
        book.put_pod(key, pod)


def follow(book: Book, state: ClusterState) -> None:
    """What is looked at as a whole: pools, and what makes a node drain."""
    book.put_pools(state.pools.values())
    book.drain_by(state.configuration.drain)


class Occupied:
    """What has an address otherwise: a service, a node or BGP peer, a node's block; HELD where nothing has.
    `is_service`: whether a service has it. It is asked as a `Taken`, and follows the rest of a state."""

    def __init__(self, is_service: Callable[[Address], bool]) -> None:
        self._is_service = is_service
        self._ranges: tuple[Prefix, ...] = ()
        self._hosts: frozenset[Address] = frozenset()
        self._blocks = Blocks()

    def follow(self, state: ClusterState) -> None:
        """Service ranges, nodes and peers as they are now."""
        self._ranges = state.service_ranges
        self._hosts = hosts(state.nodes.values(), state.peers.values())
        self._blocks = Blocks(state.nodes.values())

    def __call__(self, address: Address) -> tuple[Reason, str]:
        # A service may get any address of the service ranges, and no node learns a route to one.
        if self._is_service(address) or any(address in each for each in self._ranges):
            return Reason.SERVICE, f"{address} is a service's address, or in a service range"
        if address in self._hosts:
            return Reason.NODE, f"{address} is the address of a node, or of a BGP peer"
        if address in self._blocks:
            return Reason.BLOCK, f"{address} lies in a node's block of pod addresses"
        return Reason.HELD, ""


def taken_in(state: ClusterState) -> Occupied:
    """What else has an address in a state."""
    of_services = {address for service in state.services.values() for address in addresses_of(service)}
    found = Occupied(of_services.__contains__)
    found.follow(state)
    return found


def hosts(nodes: Iterable[Node], peers: Iterable[BgpPeer]) -> frozenset[Address]:
    """Addresses of nodes and of their BGP peers: were one translated, its sessions would end."""
    return node_addresses(nodes) | {peer.address for peer in peers if peer.address is not None}


class Blocks:
    """The blocks of nodes. Thousands of floating addresses are looked for in those of thousands of nodes with
    every change: one look-up for each length, not one comparison for each block."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._starts: dict[tuple[int, int], set[int]] = {}  # by version, and bits after the prefix
        for node in nodes:
            for block in node.blocks:
                rest = block.max_prefixlen - block.prefixlen
                start = int(block.network_address) >> rest
                self._starts.setdefault((block.version, rest), set()).add(start)

    def __contains__(self, address: Address) -> bool:
        number, version = int(address), address.version
        return any(of == version and number >> rest in held for (of, rest), held in self._starts.items())


def addresses_of(service: Service) -> Iterable[Address]:
    """All that a Service has."""
    return (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)


def announced_by(book: FloatingBook, me: str) -> frozenset[Prefix]:
    """What a node announces of it."""
    return frozenset(host_prefix(each.address) for each in book.holdings.values() if each.node == me)


def holdings_of(book: FloatingBook) -> Iterable[Holding]:
    """What came of every claim."""
    for by in book.claimants:
        yield from book.verdicts(by)
