"""Service addresses and ports, and the backends they lead to from this node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from l3net.model import (
    Address,
    AdvertisePolicy,
    ClusterState,
    EndpointSlice,
    ObjectName,
    Service,
    VirtualServer,
)
from l3net.services.endpoints import Here, by_service, here, serving
from l3net.services.verdicts import LABEL_PROXY, ServiceAddressKind, addresses, allowed, cluster_ip_owners

_Key: TypeAlias = tuple[Address, str, int]


def virtual_servers(state: ClusterState, me: str) -> frozenset[VirtualServer]:
    """Every virtual server of this node; a (address, protocol, port) occurs once."""
    node, slices = here(state.nodes, me), by_service(state.slices.values())
    owners = cluster_ip_owners(state.services.values())
    return merge(
        {
            name: service_virtual_servers(
                service, slices.get(name, ()), node, state.configuration.advertise, owners
            )
            for name, service in state.services.items()
        }
    )


def merge(by_name: Mapping[ObjectName, Iterable[VirtualServer]]) -> frozenset[VirtualServer]:
    """The servers of all services; where two claim the same address and port, the first by name has it."""
    found: dict[_Key, VirtualServer] = {}
    for name in sorted(by_name):
        for server in by_name[name]:
            found.setdefault((server.address, server.protocol, server.port), server)
    return frozenset(found.values())


def service_virtual_servers(
    service: Service,
    slices: Iterable[EndpointSlice],
    node: Here,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
) -> tuple[VirtualServer, ...]:
    """The virtual servers of one service, of its own slices, this node, the policy and ClusterIPs alone.

    ClusterIPs are served whether announced or not. An external or load-balancer address is served only inside
    its allow-list: else whoever may write a Service could draw the traffic of pods to any address
    (CVE-2020-8554). Towards these, traffic from the node's own pods and processes is not held to
    externalTrafficPolicy (as in kube-proxy).
    """
    if LABEL_PROXY in service.labels:
        return ()
    slices = tuple(slices)
    found: list[VirtualServer] = []
    for kind, address in addresses(service):
        cluster_ip = kind is ServiceAddressKind.CLUSTER_IP
        if not cluster_ip and not allowed(kind, address, policy):
            continue
        if owners.get(address, service.name) != service.name:
            continue
        for port in service.ports:
            endpoints = serving(service, port, slices, address.version, node)
            every, local = tuple(sorted(endpoints.cluster)), tuple(sorted(endpoints.local))
            inward = local if cluster_ip and service.internal_traffic_local else every
            outward = inward if cluster_ip else local if service.external_traffic_local else every
            found.append(
                VirtualServer(
                    address=address,
                    protocol=port.protocol.lower(),
                    port=port.port,
                    internal=inward,
                    external=outward,
                    client_ip_affinity=service.client_ip_affinity,
                )
            )
    return tuple(found)
