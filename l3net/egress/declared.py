"""The decisions that follow from a declared state as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from l3net.addresses import host_prefix
from l3net.egress.book import EgressBook, Taken
from l3net.egress.holding import EgressHolding, Reason
from l3net.floating.declared import Occupied, put_others
from l3net.floating.declared import taken_in as occupied_in
from l3net.floating.entitled import floating_pools, refusal
from l3net.floating.holding import Reason as FloatingReason
from l3net.model import Address, ClusterState, Prefix


def book_of(state: ClusterState, taken: Taken | None = None, *, said: bool = False) -> EgressBook:
    """A book of everything that a state declares, settled."""
    book = EgressBook(taken or taken_in(state), said=said)
    fill(book, state)
    book.settle()
    return book


def fill(book: EgressBook, state: ClusterState) -> None:
    """Put everything in that a state declares."""
    put_others(book, state)
    for name, fact in state.egress.items():
        book.put_egress(name, fact)


def taken_in(state: ClusterState) -> Taken:
    """What else has an address in a state."""
    return taken_by(occupied_in(state), floating_in(state).__contains__)


def floating_in(state: ClusterState) -> frozenset[Address]:
    """Addresses that FloatingIPs, and Pods by their annotation, have or wait for. What the pools do not let
    them have takes none from an EgressIP: whoever may make one could."""
    pools = floating_pools(state.pools.values())
    if not pools:
        return frozenset()

    def may(address: Address, namespace: str, *, annotated: bool = False, pool: str = "") -> bool:
        space = state.namespaces.get(namespace)
        labels = space.labels if space is not None else {}
        reason, _ = refusal(address, pools, labels, annotated=annotated, pool=pool)
        return reason is FloatingReason.HELD

    return frozenset(
        address
        for fact in state.floating.values()
        for address in fact.addresses
        if may(address, fact.name.namespace, pool=fact.pool if address not in fact.wanted else "")
    ) | frozenset(
        address
        for pod in state.pods.values()
        for address in pod.floating
        if may(address, pod.name.namespace, annotated=True)
    )


def taken_by(occupied: Occupied, floating: Callable[[Address], bool]) -> Taken:
    """What has an address otherwise: what none may have that moves, and a FloatingIP."""

    def taken(address: Address) -> tuple[Reason, str]:
        reason, why = occupied(address)
        if reason is FloatingReason.HELD and floating(address):
            return Reason.FLOATING, f"a FloatingIP has {address}"
        return Reason(reason.value), why

    return taken


def announced_by(book: EgressBook, me: str) -> frozenset[Prefix]:
    """What a node announces of it."""
    return frozenset(host_prefix(each.address) for each in holdings_of(book) if each.held and each.node == me)


def holdings_of(book: EgressBook) -> Iterable[EgressHolding]:
    """What came of every address."""
    for name in sorted(book.holdings):
        yield from book.holdings[name]
