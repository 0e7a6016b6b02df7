"""The endpoints of one service, from all its slices together: which serve, and which are on this node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from l3net.model import (
    DEFAULT_DRAIN,
    Address,
    Backend,
    DrainPolicy,
    Endpoint,
    EndpointSlice,
    Hints,
    Node,
    ObjectName,
    Prefix,
    Service,
    ServicePort,
)
from l3net.naming import LABEL_EXCLUDED, LABEL_ZONE

Backends: TypeAlias = tuple[Backend, ...]


def by_service(slices: Iterable[EndpointSlice]) -> dict[ObjectName, tuple[EndpointSlice, ...]]:
    """Slices grouped by the service their label names, whatever their own names are."""
    groups: dict[ObjectName, list[EndpointSlice]] = {}
    for found in slices:
        groups.setdefault(found.service, []).append(found)
    return {service: tuple(group) for service, group in groups.items()}


@dataclass(frozen=True, slots=True)
class Here:
    """What a decision about a service needs to know of this node and no more."""

    name: str
    blocks: tuple[Prefix, ...] = ()
    known: bool = True  # the Node object has been declared
    ready: bool = True
    excluded: bool = False  # from load balancing from outside, by its label
    draining: bool = False  # what others serve as well is not announced here any more
    others: frozenset[str] = frozenset()  # of a node that drains: those that are ready and do not
    addresses: tuple[Address, ...] = ()
    zone: str = ""  # by its label; empty: none

    def holds(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is on this node: by its nodeName, or, without one, by our blocks."""
        if endpoint.node is not None:
            return endpoint.node == self.name
        return any(endpoint.address in block for block in self.blocks)


def here(
    nodes: Mapping[str, Node], me: str, *, draining: bool = False, drain: DrainPolicy = DEFAULT_DRAIN
) -> Here:
    """This node as the services see it. `draining`: it withdraws service addresses, as `drain` has it.

    The exclusion label counts when present, whatever its value; not when no node would be left, as on a
    single node that kubeadm has labelled. A node that shuts down is not ready, says kubelet, but serves
    until its drain has come to that.
    """
    node = nodes.get(me)
    if node is None:
        return Here(me, known=False)
    excluded = LABEL_EXCLUDED in node.labels and any(
        LABEL_EXCLUDED not in other.labels for other in nodes.values()
    )
    return Here(
        me,
        node.blocks,
        ready=node.ready or node.shutting_down,
        excluded=excluded,
        draining=draining,
        others=frozenset(
            name for name, other in nodes.items() if name != me and other.ready and drain.cause(other) is None
        )
        if draining
        else frozenset(),
        addresses=node.addresses,
        zone=node.labels.get(LABEL_ZONE, ""),
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """The endpoints that take connections: of the cluster, and of this node. `near` are those of the cluster
    that this node sends to: all of them, unless hints name some.

    `local_ready` tells those that are ready from those of the node that serve only to the end of their days.
    `lasting` are all that still serve the connections they have, ready or not.
    """

    cluster: frozenset[Backend] = frozenset()
    near: frozenset[Backend] = frozenset()
    local: frozenset[Backend] = frozenset()
    local_ready: bool = False
    any_ready: bool = False
    elsewhere_ready: bool = False  # on a node that may take over from this one
    lasting: frozenset[Backend] = frozenset()


def serving(
    service: Service, port: ServicePort, slices: Collection[EndpointSlice], version: int, node: Here
) -> Serving:
    """The endpoints of a service port in one family (`version` 4 or 6).

    Ready ones; while there is none, those that still serve while they terminate (KEP-1669), in the cluster
    and on the node each for itself. With publishNotReadyAddresses all are ready.
    """
    ready: set[Backend] = set()
    waning: set[Backend] = set()
    local: set[Backend] = set()
    elsewhere, hinted = False, True
    for endpoint, number in of_port(port, slices):
        if endpoint.address.version != version:
            continue
        backend = Backend(endpoint.address, number)
        if endpoint.ready or service.publish_not_ready:
            ready.add(backend)
            elsewhere = elsewhere or endpoint.node in node.others
            hinted = hinted and endpoint.hints is not None
        elif endpoint.serving and endpoint.terminating:
            waning.add(backend)
        else:
            continue
        if node.holds(endpoint):
            local.add(backend)
    if not waning:  # as good as always, and a set of addresses is slow to make
        every = frozenset(ready)
        near = _near(service, port, slices, version, node) or every if hinted and ready else every
        return Serving(every, near, frozenset(local), bool(local), bool(ready), elsewhere, every)
    local_ready = local & ready
    cluster = frozenset(ready or waning)
    return Serving(
        cluster=cluster,
        near=_near(service, port, slices, version, node) or cluster if hinted and ready else cluster,
        local=frozenset(local_ready or local & waning),
        local_ready=bool(local_ready),
        any_ready=bool(ready),
        elsewhere_ready=elsewhere,
        lasting=frozenset(ready | waning),
    )


class OfService:
    """The endpoints of one service as this node sees them: `serving` of each port and family, worked out once
    for all its addresses, and for what they lead to as well as for whether they are announced."""

    __slots__ = ("_found", "_sorted", "node", "service", "slices")

    def __init__(self, service: Service, slices: Iterable[EndpointSlice], node: Here) -> None:
        self.service, self.slices, self.node = service, tuple(slices), node
        self._found: dict[tuple[str, str, int], Serving] = {}
        self._sorted: dict[tuple[str, str, int], tuple[Backends, Backends, Backends]] = {}

    def serving(self, port: ServicePort, version: int) -> Serving:
        """See `serving`; of a port it looks at no more than the name and the protocol."""
        key = port.name, port.protocol, version
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = serving(self.service, port, self.slices, version, self.node)
        return found

    def backends(self, port: ServicePort, version: int) -> tuple[Backends, Backends, Backends]:
        """Those that this node sends to, those on it, and those that last, each in order."""
        key = port.name, port.protocol, version
        found = self._sorted.get(key)
        if found is None:
            each = self.serving(port, version)
            near = tuple(sorted(each.near))
            local = near if each.local == each.near else tuple(sorted(each.local))
            lasting = near if each.lasting is each.near else tuple(sorted(each.lasting))
            found = self._sorted[key] = near, local, lasting
        return found


def _near(
    service: Service, port: ServicePort, slices: Collection[EndpointSlice], version: int, node: Here
) -> frozenset[Backend]:
    """The ready endpoints that are meant for this node, or else for its zone, by their hints; none: the hints
    name no endpoint for it, or not every endpoint says for whom it is (as in kube-proxy 1.35)."""
    hinted = [
        (endpoint.hints or Hints(), Backend(endpoint.address, number))
        for endpoint, number in of_port(port, slices)
        if endpoint.address.version == version and (endpoint.ready or service.publish_not_ready)
    ]
    for_node = frozenset(backend for hints, backend in hinted if node.name in hints.nodes)
    if for_node and all(hints.nodes for hints, _ in hinted):
        return for_node
    if node.zone and all(hints.zones for hints, _ in hinted):
        return frozenset(backend for hints, backend in hinted if node.zone in hints.zones)
    return frozenset()


def of_port(port: ServicePort, slices: Iterable[EndpointSlice]) -> Iterator[tuple[Endpoint, int]]:
    """Every endpoint of a port, ready or not, and its number there."""
    for found in slices:
        target = found.ports.get(port.name)
        if target is not None and target[0] == port.protocol:
            for endpoint in found.endpoints:
                yield endpoint, target[1]
