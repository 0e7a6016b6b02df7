"""The facts every room speaks in: frozen values, compared by equality, free of I/O.

Field names follow the Kubernetes API and the BGP RFCs; addresses and prefixes are `ipaddress` types. A module
for each subject; all of them are imported from here.
"""

from l3net.model.bfd import BfdAuth, BfdAuthType, BfdSettings
from l3net.model.bgp import (
    DEFAULT_CLUSTER_ID,
    DEFAULT_MAX_PREFIXES,
    AddressKind,
    AdvertisePolicy,
    BgpConfiguration,
    BgpPeer,
    Bogons,
    ImportPolicy,
    NextHopMode,
    NodePortAddresses,
    Topology,
)
from l3net.model.cluster import ClusterState, Fact
from l3net.model.draining import DEFAULT_DRAIN, DRAIN_TAINTS, DrainCause, DrainPolicy
from l3net.model.filters import Action, BgpFilter, FilterRule, Operations, PrefixOperator
from l3net.model.kernel import BridgePlan, NextHop, Route, RouteKind, Stale, Tracked
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
from l3net.model.servers import NODE_PORTS, Backend, ServerKey, VirtualServer
from l3net.model.terms import Address, Family, Kind, Labels, ObjectName, Prefix, SecretKey

__all__ = [
    "DEFAULT_CLUSTER_ID",
    "DEFAULT_DRAIN",
    "DEFAULT_MAX_PREFIXES",
    "DRAIN_TAINTS",
    "EVERYTHING",
    "NODE_PORTS",
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
    "Bogons",
    "BridgePlan",
    "ClusterState",
    "Direction",
    "DrainCause",
    "DrainPolicy",
    "Endpoint",
    "EndpointSlice",
    "Fact",
    "Family",
    "FilterRule",
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
    "Pod",
    "PodPort",
    "PodSelection",
    "Policy",
    "PolicyPeer",
    "PolicyPort",
    "PolicyRule",
    "PoolUse",
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
    "ServicePort",
    "Stale",
    "Taint",
    "Tier",
    "Topology",
    "Tracked",
    "VirtualServer",
]
