"""Which services have every node choose alike for traffic from outside, and among which endpoints."""

from __future__ import annotations

from collections.abc import Iterable

from l3net.model import AdvertisePolicy, Backend, EndpointSlice, Placed, Service, ServicePort, Spread
from l3net.naming import ANNOTATION_LOAD_BALANCING, CONSISTENT, RANDOM
from l3net.services.endpoints import Here, of_port
from l3net.services.verdicts import ServiceAddressKind


def consistent(service: Service, policy: AdvertisePolicy) -> bool:
    """What the service's annotation says or, where it says nothing that is known, the configuration."""
    said = service.annotations.get(ANNOTATION_LOAD_BALANCING, "")
    return said == CONSISTENT if said in (CONSISTENT, RANDOM) else policy.consistent


def spreads(service: Service, kind: ServiceAddressKind, policy: AdvertisePolicy) -> bool:
    """Whether traffic from outside to an address of this kind is spread so. A ClusterIP that nobody announces
    draws none, and one that is for a node's own endpoints has them serve. No router spreads a NodePort."""
    if kind is ServiceAddressKind.NODE_PORT or not consistent(service, policy):
        return False
    if kind is ServiceAddressKind.CLUSTER_IP:
        return policy.cluster_ips.enabled and not service.internal_traffic_local
    return True


def spread(
    service: Service, port: ServicePort, slices: Iterable[EndpointSlice], version: int, node: Here
) -> Spread | None:
    """The endpoints of a service port in a family: the same on every node, whichever of them it has. None: no
    endpoint takes connections."""
    ready: set[Placed] = set()
    waning: set[Placed] = set()
    others: set[Placed] = set()
    for endpoint, number in of_port(port, slices):
        if endpoint.address.version != version:
            continue
        where = endpoint.node or (node.name if node.holds(endpoint) else "")
        placed = Placed(Backend(endpoint.address, number), where)
        if endpoint.ready or service.publish_not_ready:
            ready.add(placed)
        elif endpoint.serving and endpoint.terminating:
            waning.add(placed)
        else:
            others.add(placed)
    taking = ready or waning
    if not taking:
        return None
    known = {placed.backend for placed in taking}
    rest = (placed for placed in waning | others if placed.backend not in known)
    return Spread(tuple(sorted(taking)), tuple(sorted(rest)))
