"""The holdings that follow from a declared state as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from l3net.addresses import host_prefix
from l3net.floating.book import FloatingBook, Taken, taken_by
from l3net.floating.entitled import floating_pools
from l3net.floating.holding import Holding
from l3net.model import Address, ClusterState, Prefix, Service, node_addresses


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
    of_nodes = node_addresses(state.nodes.values())
    blocks = [block for node in state.nodes.values() for block in node.blocks]
    return taken_by(
        of_services.__contains__,
        of_nodes.__contains__,
        lambda address: any(address in block for block in blocks),
    )


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
