"""The facts every room speaks in: frozen values, compared by equality, free of I/O.

Field names follow the Kubernetes API and the BGP RFCs; addresses and prefixes are `ipaddress` types. A module
for each subject; all of them are imported from here.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from l3net.model.bfd import BfdAuth, BfdAuthType, BfdSettings
    from l3net.model.bgp import (
        DEFAULT_CLUSTER_ID,
        DEFAULT_MAX_PREFIXES,
        AddressKind,
        AdvertisePolicy,
        BgpConfiguration,
        BgpPeer,
        BmpCollector,
        Bogons,
        ImportPolicy,
        NextHopMode,
        NodePortAddresses,
        ServiceProxy,
        Topology,
    )
    from l3net.model.bridge import BridgePlan
    from l3net.model.cluster import ClusterState, Fact, node_addresses, service_ranges
    from l3net.model.connections import PORTS_OF_ADDRESS, PortUse, Stale, Tracked
    from l3net.model.draining import DEFAULT_DRAIN, DRAIN_TAINTS, TO_BE_DELETED, DrainCause, DrainPolicy
    from l3net.model.egress import NO_EGRESS, EgressIp, EgressPaths, EgressRule, EgressRules, EgressWay
    from l3net.model.filters import Action, BgpFilter, FilterRule, Operations, PrefixOperator
    from l3net.model.floating import FloatingIp
    from l3net.model.kernel import (
        Envelope,
        EnvelopeEnd,
        NextHop,
        Route,
        RouteKind,
        routes_alike,
    )
    from l3net.model.kubernetes import (
        Endpoint,
        EndpointSlice,
        Hints,
        Namespace,
        Node,
        Pod,
        PodPort,
        Secret,
        Service,
        ServiceCidr,
        ServicePort,
        Taint,
    )
    from l3net.model.policies import (
        Direction,
        IpBlock,
        NodeSelection,
        PodSelection,
        Policy,
        PolicyPeer,
        PolicyPort,
        PolicyRule,
        Rule,
        Tier,
    )
    from l3net.model.pools import IpPool, PoolUse
    from l3net.model.selectors import EVERYTHING, Requirement, Selector
    from l3net.model.servers import (
        NODE_PORTS,
        Backend,
        Placed,
        ServerKey,
        Spread,
        VirtualServer,
        is_node_port,
    )
    from l3net.model.terms import Address, Family, Kind, Labels, ObjectName, Prefix, SecretKey

__all__ = [
    "DEFAULT_CLUSTER_ID",
    "DEFAULT_DRAIN",
    "DEFAULT_MAX_PREFIXES",
    "DRAIN_TAINTS",
    "EVERYTHING",
    "NODE_PORTS",
    "NO_EGRESS",
    "PORTS_OF_ADDRESS",
    "TO_BE_DELETED",
    "Action",
    "Address",
    "AddressKind",
    "AdvertisePolicy",
    "Backend",
    "BfdAuth",
    "BfdAuthType",
    "BfdSettings",
    "BgpConfiguration",
    "BgpFilter",
    "BgpPeer",
    "BmpCollector",
    "Bogons",
    "BridgePlan",
    "ClusterState",
    "Direction",
    "DrainCause",
    "DrainPolicy",
    "EgressIp",
    "EgressPaths",
    "EgressRule",
    "EgressRules",
    "EgressWay",
    "Endpoint",
    "EndpointSlice",
    "Envelope",
    "EnvelopeEnd",
    "Fact",
    "Family",
    "FilterRule",
    "FloatingIp",
    "Hints",
    "ImportPolicy",
    "IpBlock",
    "IpPool",
    "Kind",
    "Labels",
    "Namespace",
    "NextHop",
    "NextHopMode",
    "Node",
    "NodePortAddresses",
    "NodeSelection",
    "ObjectName",
    "Operations",
    "Placed",
    "Pod",
    "PodPort",
    "PodSelection",
    "Policy",
    "PolicyPeer",
    "PolicyPort",
    "PolicyRule",
    "PoolUse",
    "PortUse",
    "Prefix",
    "PrefixOperator",
    "Requirement",
    "Route",
    "RouteKind",
    "Rule",
    "Secret",
    "SecretKey",
    "Selector",
    "ServerKey",
    "Service",
    "ServiceCidr",
    "ServicePort",
    "ServiceProxy",
    "Spread",
    "Stale",
    "Taint",
    "Tier",
    "Topology",
    "Tracked",
    "VirtualServer",
    "is_node_port",
    "node_addresses",
    "routes_alike",
    "service_ranges",
]

#: The facts of each module, which is read when one of them is first asked for: a plugin, a process for each
#: pod where no agent runs, needs few of them.
_ROOMS: Final = {
    "bfd": (
        "BfdAuth",
        "BfdAuthType",
        "BfdSettings",
    ),
    "bgp": (
        "DEFAULT_CLUSTER_ID",
        "DEFAULT_MAX_PREFIXES",
        "AddressKind",
        "AdvertisePolicy",
        "BgpConfiguration",
        "BgpPeer",
        "BmpCollector",
        "Bogons",
        "ImportPolicy",
        "NextHopMode",
        "NodePortAddresses",
        "ServiceProxy",
        "Topology",
    ),
    "bridge": ("BridgePlan",),
    "cluster": (
        "ClusterState",
        "Fact",
        "node_addresses",
        "service_ranges",
    ),
    "connections": (
        "PORTS_OF_ADDRESS",
        "PortUse",
        "Stale",
        "Tracked",
    ),
    "draining": (
        "DEFAULT_DRAIN",
        "DRAIN_TAINTS",
        "TO_BE_DELETED",
        "DrainCause",
        "DrainPolicy",
    ),
    "egress": (
        "NO_EGRESS",
        "EgressIp",
        "EgressPaths",
        "EgressRule",
        "EgressRules",
        "EgressWay",
    ),
    "filters": (
        "Action",
        "BgpFilter",
        "FilterRule",
        "Operations",
        "PrefixOperator",
    ),
    "floating": ("FloatingIp",),
    "kernel": (
        "Envelope",
        "EnvelopeEnd",
        "NextHop",
        "Route",
        "RouteKind",
        "routes_alike",
    ),
    "kubernetes": (
        "Endpoint",
        "EndpointSlice",
        "Hints",
        "Namespace",
        "Node",
        "Pod",
        "PodPort",
        "Secret",
        "Service",
        "ServiceCidr",
        "ServicePort",
        "Taint",
    ),
    "policies": (
        "Direction",
        "IpBlock",
        "NodeSelection",
        "PodSelection",
        "Policy",
        "PolicyPeer",
        "PolicyPort",
        "PolicyRule",
        "Rule",
        "Tier",
    ),
    "pools": (
        "IpPool",
        "PoolUse",
    ),
    "selectors": (
        "EVERYTHING",
        "Requirement",
        "Selector",
    ),
    "servers": (
        "NODE_PORTS",
        "Backend",
        "Placed",
        "ServerKey",
        "Spread",
        "VirtualServer",
        "is_node_port",
    ),
    "terms": (
        "Address",
        "Family",
        "Kind",
        "Labels",
        "ObjectName",
        "Prefix",
        "SecretKey",
    ),
}
_ROOM_OF: Final = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """PEP 562."""
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{room}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
