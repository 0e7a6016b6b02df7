"""The holdings that follow from a declared state as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from l3net.addresses import host_prefix
from l3net.floating.book import FloatingBook, Taken, taken_by
from l3net.floating.entitled import floating_pools
from l3net.floating.holding import Holding
from l3net.model import Address, BgpPeer, ClusterState, Node, Prefix, Service, node_addresses


def book_of(state: ClusterState, taken: Taken | None = None) -> FloatingBook:
    """A book of everything that a state declares, settled."""
    if not state.floating and not floating_pools(state.pools.values()):
        return FloatingBook()  # nobody can have one
    book = FloatingBook(taken or taken_in(state))
    fill(book, state)
    book.settle()
    return book


def fill(book: FloatingBook, state: ClusterState) -> None:
    """Put everything in that a state declares."""
    follow(book, state)
    for name, namespace in state.namespaces.items():
        book.put_namespace(name, namespace.labels)
    for name, node in state.nodes.items():
        book.put_node(name, node)
    for key, floating in state.floating.items():
        book.put_floating(key, floating)
    for key, pod in state.pods.items():
        book.put_pod(key, pod)


def follow(book: FloatingBook, state: ClusterState) -> None:
    """What is looked at as a whole: pools, and what makes a node drain."""
    book.put_pools(state.pools.values())
    book.drain_by(state.configuration.drain)


def taken_in(state: ClusterState) -> Taken:
    """What else has an address in a state."""
    of_services = {address for service in state.services.values() for address in addresses_of(service)}
    ranges = state.service_ranges
    return taken_by(
        lambda address: address in of_services or any(address in each for each in ranges),
        hosts(state.nodes.values(), state.peers.values()).__contains__,
        Blocks(state.nodes.values()).__contains__,
    )


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
