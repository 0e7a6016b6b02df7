"""The part of the declared state the controller decides on, as the datastore's events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from l3net.model import (
    BgpConfiguration,
    BgpPeer,
    IpPool,
    Kind,
    Namespace,
    Node,
    ObjectName,
    Service,
)
from l3net.ports import Changed


@dataclass(slots=True)
class Declared:
    """Nodes, services, namespaces, pools and the configuration, by name."""

    nodes: dict[str, Node] = field(default_factory=dict)
    services: dict[ObjectName, Service] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    pools: dict[str, IpPool] = field(default_factory=dict)
    configuration: BgpConfiguration = field(default_factory=BgpConfiguration)
    peers: dict[str, BgpPeer] = field(default_factory=dict)
    filters: set[str] = field(default_factory=set)  # names of BGPFilters

    def take(self, event: Changed) -> bool:
        """Take a change in; whether it can matter to a decision."""
        name = event.name.name
        match event.kind, event.fact:
            case Kind.NODE, Node() as node:
                old = self.nodes.get(name)
                self.nodes[name] = node
                return old is None or _lasting(old) != _lasting(node)
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
        )


def _outside(service: Service) -> bool:
    """Whether the service has, or shall have, addresses from outside the service ranges."""
    return service.type == "LoadBalancer" or bool(service.external_ips)


def _lasting(node: Node) -> Node:
    """A Node without what comes and goes, and decides nothing here."""
    return replace(node, ready=True, unschedulable=False, taints=frozenset(), shutting_down=False)
