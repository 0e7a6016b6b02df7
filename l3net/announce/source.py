"""What a source of announcements sees, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from l3net.egress.holding import EgressHolding
from l3net.floating.holding import Holding
from l3net.model import ClusterState, Prefix
from l3net.services.verdicts import ServiceVerdict


@dataclass(frozen=True, slots=True)
class NodeView:
    """The declared state as a node sees it. `service_prefixes` are the host routes of the service addresses
    that it announces, `verdicts` tells that on every address of every service. `floating_prefixes` and
    `holdings` are the same of floating addresses, `egress_prefixes` and `egress_holdings` of those that pods
    leave the cluster with."""

    state: ClusterState
    me: str
    service_prefixes: Collection[Prefix] = ()
    verdicts: Callable[[], Iterable[ServiceVerdict]] = tuple
    floating_prefixes: Collection[Prefix] = frozenset()
    holdings: Callable[[], Iterable[Holding]] = tuple
    egress_prefixes: Collection[Prefix] = frozenset()
    egress_holdings: Callable[[], Iterable[EgressHolding]] = tuple


@dataclass(frozen=True, slots=True)
class Announcement:
    """A prefix of this node's, what it is, of which object (empty: of the node), and why the node does not
    announce it (empty: it does)."""

    prefix: Prefix
    kind: str
    of: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of prefix. `prefixes` are those to announce; `reasons` all that could be, each with what
    stands against it. `mesh`: nodes of the mesh hear them too; `of_services`: they follow from the services'
    addresses, and are looked at again whenever these change.
    """

    name: str
    prefixes: Callable[[NodeView], Iterable[Prefix]]
    reasons: Callable[[NodeView], Iterable[Announcement]]
    mesh: bool = True
    of_services: bool = False
