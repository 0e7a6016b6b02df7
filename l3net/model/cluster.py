"""The declared state as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.model.bgp import BgpConfiguration, BgpPeer
from l3net.model.egress import EgressIp
from l3net.model.filters import BgpFilter
from l3net.model.floating import FloatingIp
from l3net.model.kubernetes import EndpointSlice, Namespace, Node, Pod, Secret, Service, ServiceCidr
from l3net.model.policies import Policy
from l3net.model.pools import IpPool
from l3net.model.terms import Address, ObjectName, Prefix

Fact: TypeAlias = (
    Node
    | Namespace
    | Secret
    | Service
    | EndpointSlice
    | ServiceCidr
    | Pod
    | Policy
    | BgpConfiguration
    | BgpPeer
    | BgpFilter
    | IpPool
    | FloatingIp
    | EgressIp
)


@dataclass(slots=True)
class ClusterState:
    """The declared state as last heard, by kind and name. The loop owns it; decisions only read it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    secrets: dict[ObjectName, Secret] = field(default_factory=dict)
    services: dict[ObjectName, Service] = field(default_factory=dict)
    slices: dict[ObjectName, EndpointSlice] = field(default_factory=dict)
    pods: dict[ObjectName, Pod] = field(default_factory=dict)
    policies: dict[ObjectName, Policy] = field(default_factory=dict)
    cluster_policies: dict[str, Policy] = field(default_factory=dict)
    configuration: BgpConfiguration = field(default_factory=BgpConfiguration)
    peers: dict[str, BgpPeer] = field(default_factory=dict)
    filters: dict[str, BgpFilter] = field(default_factory=dict)
    pools: dict[str, IpPool] = field(default_factory=dict)
    floating: dict[ObjectName, FloatingIp] = field(default_factory=dict)
    egress: dict[str, EgressIp] = field(default_factory=dict)
    service_cidrs: dict[str, ServiceCidr] = field(default_factory=dict)

    @property
    def service_ranges(self) -> tuple[Prefix, ...]:
        """The cluster's service ranges: what every decision looks at."""
        return service_ranges(self.configuration, self.service_cidrs.values())


def node_addresses(nodes: Iterable[Node]) -> frozenset[Address]:
    """Those of all nodes: a route to one is the way to that node, and no service is announced there."""
    return frozenset(address for node in nodes for address in node.addresses)


def service_ranges(configuration: BgpConfiguration, cidrs: Iterable[ServiceCidr]) -> tuple[Prefix, ...]:
    """Those that the BGPConfiguration names; where it names none, those of all ServiceCIDRs together."""
    if configuration.service_cidrs:
        return configuration.service_cidrs
    found = {cidr for each in cidrs for cidr in each.cidrs}
    return tuple(sorted(found, key=lambda cidr: (cidr.version, cidr)))
