"""Service addresses and ports, and the backends they lead to from this node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from l3net.addresses import host_prefix
from l3net.model import (
    Address,
    AdvertisePolicy,
    ClusterState,
    ObjectName,
    Prefix,
    ServerKey,
    Service,
    VirtualServer,
)
from l3net.services.endpoints import Here, OfService, by_service, here
from l3net.services.spreading import spread, spreads
from l3net.services.verdicts import (
    ServiceAddressKind,
    claims,
    cluster_ip_owners,
    seniority,
)


def virtual_servers(state: ClusterState, me: str) -> frozenset[VirtualServer]:
    """Every virtual server of this node; a (address, protocol, port) occurs once."""
    node, slices = here(state.nodes, me), by_service(state.slices.values())
    owners = cluster_ip_owners(state.services.values())
    return merge(
        service_virtual_servers(
            OfService(service, slices.get(service.name, ()), node), state.configuration.advertise, owners
        )
        for service in sorted(state.services.values(), key=seniority)
    )


def merge(by_service: Iterable[Iterable[VirtualServer]]) -> frozenset[VirtualServer]:
    """The servers of all services, the senior ones first: of two that claim the same address and port, the
    first has it."""
    found: dict[ServerKey, VirtualServer] = {}
    for servers in by_service:
        for server in servers:
            found.setdefault(server.key, server)
    return frozenset(found.values())


def service_virtual_servers(
    endpoints: OfService, policy: AdvertisePolicy, owners: Mapping[Address, ObjectName]
) -> tuple[VirtualServer, ...]:
    """The virtual servers of one service, of its own slices, this node, the policy and ClusterIPs alone.

    ClusterIPs are served whether announced or not. Towards external and load-balancer addresses and
    NodePorts, traffic from the node's own pods and processes is not held to externalTrafficPolicy (as in
    kube-proxy).
    """
    service, node = endpoints.service, endpoints.node
    found: list[VirtualServer] = []
    for kind, key, port in claims(service, policy, owners):
        address, cluster_ip = key[0], kind is ServiceAddressKind.CLUSTER_IP
        every, local, lasting = endpoints.backends(port, address.version)
        inward = local if cluster_ip and service.internal_traffic_local else every
        outward = inward if cluster_ip else local if service.external_traffic_local else every
        found.append(
            VirtualServer(
                *key,
                internal=inward,
                external=outward,
                affinity=service.affinity_timeout,
                sources=_sources(service, address, node),
                lasting=lasting if port.protocol != "TCP" else (),
                spread=spread(service, port, endpoints.slices, address.version, node)
                if spreads(service, kind, policy)
                else None,
            )
        )
    return tuple(found)


def _sources(service: Service, address: Address, node: Here) -> tuple[Prefix, ...] | None:
    """Who may speak to an address of a service (loadBalancerSourceRanges); None: everybody.

    A family of which no range is named is closed. A node that is let in is so too where the address stands on
    a link of its own, and is what it speaks from (as in kube-proxy).
    """
    if service.source_ranges is None or address not in service.load_balancer_ips:
        return None
    ranges = [each for each in service.source_ranges if each.version == address.version]
    if any(own in each for own in node.addresses for each in ranges):
        ranges.append(host_prefix(address))
    return tuple(sorted(set(ranges)))
