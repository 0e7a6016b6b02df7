"""The part of the declared state the controller decides on, as the datastore's events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from l3net.model import (
    BgpConfiguration,
    BgpPeer,
    ClusterState,
    EgressIp,
    FloatingIp,
    IpPool,
    Kind,
    Namespace,
    Node,
    ObjectName,
    Pod,
    Policy,
    Prefix,
    Service,
    ServiceCidr,
    service_ranges,
)
from l3net.ports import Changed

_F = TypeVar("_F")


@dataclass(slots=True)
class Declared:
    """Nodes, services, namespaces, pools, policies, their pods and the configuration, by name."""

    nodes: dict[str, Node] = field(default_factory=dict)
    services: dict[ObjectName, Service] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    pools: dict[str, IpPool] = field(default_factory=dict)
    configuration: BgpConfiguration = field(default_factory=BgpConfiguration)
    peers: dict[str, BgpPeer] = field(default_factory=dict)
    filters: set[str] = field(default_factory=set)  # names of BGPFilters
    policies: dict[ObjectName, Policy] = field(default_factory=dict)
    cluster_policies: dict[ObjectName, Policy] = field(default_factory=dict)
    pods: dict[ObjectName, Pod] = field(default_factory=dict)
    service_cidrs: dict[ObjectName, ServiceCidr] = field(default_factory=dict)
    floating: dict[ObjectName, FloatingIp] = field(default_factory=dict)
    egress: dict[ObjectName, EgressIp] = field(default_factory=dict)
    _floating_in: frozenset[str] = frozenset()  # namespaces

    @property
    def service_ranges(self) -> tuple[Prefix, ...]:
        """The cluster's service ranges."""
        return service_ranges(self.configuration, self.service_cidrs.values())

    def take(self, event: Changed) -> bool:
        """Take a change in; whether it can matter to a decision. Pods are looked at now and then alone, but
        for those of namespaces with floating addresses."""
        name = event.name.name
        match event.kind, event.fact:
            case Kind.POD, fact:
                pod = self.pods.get(event.name)
                differs = _put(self.pods, event.name, fact if isinstance(fact, Pod) else None)
                asks = any(isinstance(each, Pod) and each.floating for each in (pod, fact))
                return differs and (asks or event.name.namespace in self._floating_in)
            case Kind.FLOATING_IP, fact:
                differs = _put(self.floating, event.name, fact if isinstance(fact, FloatingIp) else None)
                self._floating_in = frozenset(each.namespace for each in self.floating)
                return differs
            case Kind.EGRESS_IP, fact:
                return _put(self.egress, event.name, fact if isinstance(fact, EgressIp) else None)
            case Kind.NETWORK_POLICY, fact:
                return _put(self.policies, event.name, fact if isinstance(fact, Policy) else None)
            case Kind.CLUSTER_NETWORK_POLICY, fact:
                return _put(self.cluster_policies, event.name, fact if isinstance(fact, Policy) else None)
            case Kind.SERVICE_CIDR, fact:
                return _put(self.service_cidrs, event.name, fact if isinstance(fact, ServiceCidr) else None)
            case Kind.NODE, Node() as node:
                old = self.nodes.get(name)
                self.nodes[name] = node
                moves = bool(self.floating or self.egress)  # who has an address follows how Nodes are
                return old is None or _lasting(old) != _lasting(node) or (moves and old != node)
            case Kind.NODE, None:
                return self.nodes.pop(name, None) is not None
            case Kind.SERVICE, Service() as service:
                before = self.services.get(event.name)
                self.services[event.name] = service
                return before != service and (_outside(service) or (before is not None and _outside(before)))
            case Kind.SERVICE, None:
                gone = self.services.pop(event.name, None)
                return gone is not None and _outside(gone)
            case Kind.NAMESPACE, Namespace() as namespace:
                known = self.namespaces.get(name)
                self.namespaces[name] = namespace
                return known != namespace
            case Kind.NAMESPACE, None:
                return self.namespaces.pop(name, None) is not None
            case Kind.IP_POOL, IpPool() as pool:
                self.pools[name] = pool
                return True
            case Kind.IP_POOL, None:
                return self.pools.pop(name, None) is not None
            case Kind.BGP_CONFIGURATION, fact if name == "default":
                self.configuration = fact if isinstance(fact, BgpConfiguration) else BgpConfiguration()
                return True
            case Kind.BGP_PEER, BgpPeer() as peer:
                known_peer = self.peers.get(name)
                self.peers[name] = peer
                return known_peer is None or known_peer.filters != peer.filters
            case Kind.BGP_PEER, None:
                return self.peers.pop(name, None) is not None
            case Kind.BGP_FILTER, fact:
                known_filter = name in self.filters
                (self.filters.discard if fact is None else self.filters.add)(name)
                return known_filter is (fact is None)
        return False

    def has(self, kind: Kind, name: ObjectName) -> bool:
        """Whether an object that may hold something by the ledger is there."""
        match kind:
            case Kind.NODE:
                return name.name in self.nodes
            case Kind.FLOATING_IP:
                return name in self.floating
            case Kind.EGRESS_IP:
                return name in self.egress
        return name in self.services

    def copy(self) -> Declared:
        """A snapshot: facts are frozen, so the containers are all there is to copy."""
        return Declared(
            dict(self.nodes),
            dict(self.services),
            dict(self.namespaces),
            dict(self.pools),
            self.configuration,
            dict(self.peers),
            set(self.filters),
            dict(self.policies),
            dict(self.cluster_policies),
            dict(self.pods),
            dict(self.service_cidrs),
            dict(self.floating),
            dict(self.egress),
            self._floating_in,
        )

    def of_addresses(self) -> ClusterState:
        """All that decides who has floating and egress addresses. It looks at every Pod."""
        return ClusterState(
            nodes=self.nodes,
            peers=self.peers,
            namespaces=self.namespaces,
            services=self.services,
            pods={
                name: pod
                for name, pod in self.pods.items()
                if pod.floating or name.namespace in self._floating_in
            },
            configuration=self.configuration,
            pools=self.pools,
            floating=self.floating,
            egress={name.name: each for name, each in self.egress.items()},
            service_cidrs={name.name: each for name, each in self.service_cidrs.items()},
        )


def _put(held: dict[ObjectName, _F], name: ObjectName, fact: _F | None) -> bool:
    """Put or delete; whether that changes anything."""
    before = held.get(name)
    if fact is None:
        held.pop(name, None)
    else:
        held[name] = fact
    return before != fact


def _outside(service: Service) -> bool:
    """Whether the service has, or shall have, addresses from outside the service ranges."""
    return service.type == "LoadBalancer" or bool(service.external_ips)


def _lasting(node: Node) -> Node:
    """A Node without what comes and goes, and decides nothing here."""
    return replace(node, ready=True, unschedulable=False, taints=frozenset(), shutting_down=False)
