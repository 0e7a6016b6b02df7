"""The words all other facts are made of: addresses, prefixes, families, kinds and names of objects."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Prefix: TypeAlias = IPv4Network | IPv6Network
Labels: TypeAlias = Mapping[str, str]


class Family(enum.Enum):
    """An address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6


class Kind(enum.Enum):
    """The kinds of declared object l3net reads; the value is the Kubernetes kind."""

    NODE = "Node"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NAMESPACE = "Namespace"
    SECRET = "Secret"  # noqa: S105 - a kind, not a password
    POD = "Pod"
    NETWORK_POLICY = "NetworkPolicy"
    CLUSTER_NETWORK_POLICY = "ClusterNetworkPolicy"
    SERVICE_CIDR = "ServiceCIDR"
    BGP_CONFIGURATION = "BGPConfiguration"
    BGP_PEER = "BGPPeer"
    BGP_FILTER = "BGPFilter"
    IP_POOL = "IPPool"
    FLOATING_IP = "FloatingIP"
    EGRESS_IP = "EgressIP"


class ObjectName(NamedTuple):
    """Namespace and name of a declared object; the namespace of a cluster-scoped one is empty.

    A tuple: the key of most tables there are, and a dataclass hashes and compares in Python.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key inside a Secret."""

    secret: ObjectName
    key: str
