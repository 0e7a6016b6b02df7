"""Kubernetes' own objects, as far as l3net reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from l3net.model.terms import Address, Labels, ObjectName, Prefix


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a Node (core/v1), without its value."""

    key: str
    effect: str  # NoSchedule, PreferNoSchedule, NoExecute


@dataclass(frozen=True, slots=True)
class Node:
    """A Node (core/v1). `addresses` are its InternalIPs.

    `blocks` are its podCIDRs and those that the annotation l3net.io/blocks adds, in this order; of the node
    an agent runs on, after them those that were, in which pods still run: they are `retained` too.
    `shutting_down`: kubelet says so in the condition Ready, which is False then (graceful node shutdown).
    """

    name: str
    addresses: tuple[Address, ...] = ()
    blocks: tuple[Prefix, ...] = ()
    as_number: int | None = None  # annotation l3net.io/as-number
    snat_addresses: tuple[Address, ...] = ()  # annotation l3net.io/snat-addresses
    labels: Labels = field(default_factory=dict, hash=False)
    annotations: Labels = field(default_factory=dict, hash=False)
    ready: bool = True
    unschedulable: bool = False
    taints: frozenset[Taint] = frozenset()
    shutting_down: bool = False
    deleting: bool = False  # the object has a deletionTimestamp
    retained: tuple[Prefix, ...] = ()

    @property
    def declared_blocks(self) -> tuple[Prefix, ...]:
        """Those that new pods may have addresses of."""
        return tuple(block for block in self.blocks if block not in self.retained)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A Namespace (core/v1). `allowed_sources`: what its pods may ask to send from beside their own addresses
    (annotation l3net.io/allowed-addresses)."""

    name: str
    labels: Labels = field(default_factory=dict, hash=False)
    allowed_sources: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port that a pod's container gives a name. `protocol` is tcp, udp or sctp."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod (core/v1), as far as policies need it.

    `addresses` are status.podIPs; `finished`: its phase is Succeeded or Failed, and its address may be
    another pod's. `uids`: those that a runtime may name it by (of a mirror pod also that of the static pod).
    `allowed_sources`: what it asks to send from beside its addresses (annotation l3net.io/allowed-addresses).
    `created` is its creationTimestamp, as a Service's. `ready_since`: since when its condition Ready holds
    (RFC 3339, UTC; `created` where nothing is told), None: it does not. `deleting`: it has a
    deletionTimestamp. `floating`: public addresses that it asks for (annotation l3net.io/floating-ips).
    """

    name: ObjectName
    labels: Labels = field(default_factory=dict, hash=False)
    addresses: tuple[Address, ...] = ()
    node: str = ""
    host_network: bool = False
    finished: bool = False
    ports: tuple[PodPort, ...] = ()
    uids: tuple[str, ...] = ()
    allowed_sources: tuple[Prefix, ...] = ()
    created: str = ""
    ready_since: str | None = ""
    deleting: bool = False
    floating: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret (core/v1), decoded. Its repr hides the values."""

    name: ObjectName
    values: Mapping[str, bytes] = field(repr=False, default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ServiceCidr:
    """A ServiceCIDR (networking.k8s.io/v1): ranges that the API server gives ClusterIPs of."""

    name: str
    cidrs: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    protocol: str  # TCP, UDP, SCTP
    port: int
    node_port: int = 0  # of every node; 0: none


@dataclass(frozen=True, slots=True)
class Service:
    """A Service (core/v1). Headless services have no cluster_ips.

    `created` is its creationTimestamp (RFC 3339, UTC, so that text orders by time); empty where there is
    none, as in a directory of manifests. `affinity_timeout` in seconds, 0: none. `source_ranges` None: all.
    """

    name: ObjectName
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()  # status.loadBalancer.ingress[].ip
    wanted_ip: Address | None = None  # spec.loadBalancerIP
    ports: tuple[ServicePort, ...] = ()
    internal_traffic_local: bool = False  # internalTrafficPolicy: Local
    external_traffic_local: bool = False  # externalTrafficPolicy: Local
    affinity_timeout: int = 0  # sessionAffinity: ClientIP, and for how long
    source_ranges: tuple[Prefix, ...] | None = None  # loadBalancerSourceRanges
    created: str = ""
    health_port: int = 0  # healthCheckNodePort, of a load balancer with externalTrafficPolicy Local; 0: none
    load_balancer_class: str | None = None
    publish_not_ready: bool = False
    labels: Labels = field(default_factory=dict, hash=False)
    annotations: Labels = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Hints:
    """Whom an endpoint is meant for (discovery/v1): nodes and zones by name. An empty list says nothing."""

    nodes: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a slice (discovery/v1). `ready` is already resolved: null means true."""

    address: Address
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None
    hints: Hints | None = None


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """An EndpointSlice (discovery/v1) of the service its label names; `ports`: name to (protocol, port)."""

    name: ObjectName
    service: ObjectName
    endpoints: tuple[Endpoint, ...] = ()
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict, hash=False)
