"""Which service addresses this node announces, and why not the others."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from l3net.model import (
    Address,
    AddressKind,
    AdvertisePolicy,
    ClusterState,
    EndpointSlice,
    ObjectName,
    Prefix,
    Service,
)
from l3net.naming import ANNOTATION_ADVERTISE, API_GROUP
from l3net.services.endpoints import Here, by_service, here, serving

#: A service with this label is another proxy's (kube-proxy leaves it alone too).
LABEL_PROXY = "service.kubernetes.io/service-proxy-name"
#: The load-balancer class of ours; a service without a class is anyone's.
LOAD_BALANCER_CLASS = f"{API_GROUP}/bgp"


class ServiceAddressKind(enum.Enum):
    """Where in a Service an address stands."""

    CLUSTER_IP = "clusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER_IP = "loadBalancerIP"


class Reason(enum.Enum):
    """Why a service address is announced or not. The value is what users see."""

    ADVERTISE = "advertise"
    OTHER_PROXY = "otherProxy"  # the label service.kubernetes.io/service-proxy-name
    OPTED_OUT = "optedOut"  # the annotation l3net.io/advertise: "false"
    NOT_SELECTED = "notSelected"  # advertise.serviceSelector, and no annotation l3net.io/advertise: "true"
    KIND_DISABLED = "kindDisabled"
    OUTSIDE_ALLOW_LIST = "outsideAllowList"
    OTHER_LOAD_BALANCER_CLASS = "otherLoadBalancerClass"
    CONFLICTING_OWNER = "conflictingOwner"  # it is the ClusterIP of another service
    NODE_UNKNOWN = "nodeUnknown"  # no Node object for this node
    NODE_NOT_READY = "nodeNotReady"
    NODE_EXCLUDED = "nodeExcluded"
    NO_ENDPOINTS = "noEndpoints"
    NO_LOCAL_ENDPOINTS = "noLocalEndpoints"
    NODE_DRAINING = "nodeDraining"  # and another node serves it


@dataclass(frozen=True, slots=True)
class ServiceVerdict:
    """The decision about one address of one service on this node."""

    service: ObjectName
    address: Address
    kind: ServiceAddressKind
    reason: Reason

    @property
    def advertised(self) -> bool:
        return self.reason is Reason.ADVERTISE


def advertised(state: ClusterState, me: str, *, draining: bool = False) -> tuple[ServiceVerdict, ...]:
    """A verdict for each address of each service, by service name."""
    node = here(state.nodes, me, draining=draining, drain=state.configuration.drain)
    slices = by_service(state.slices.values())
    owners = cluster_ip_owners(state.services.values())
    return tuple(
        verdict
        for name in sorted(state.services)
        for verdict in service_verdicts(
            state.services[name], slices.get(name, ()), node, state.configuration.advertise, owners
        )
    )


def announced(verdicts: Iterable[ServiceVerdict]) -> frozenset[Prefix]:
    """The host prefixes to announce: a shared address as long as one service wants it."""
    return frozenset(ipaddress.ip_network(verdict.address) for verdict in verdicts if verdict.advertised)


def cluster_ip_owners(services: Iterable[Service]) -> dict[Address, ObjectName]:
    """Whose each ClusterIP is. An external address cannot take it (CVE-2020-8554)."""
    owners: dict[Address, ObjectName] = {}
    for service in services:
        for address in service.cluster_ips:
            owners[address] = min(owners.get(address, service.name), service.name)
    return owners


def addresses(service: Service) -> Iterator[tuple[ServiceAddressKind, Address]]:
    """Every address of a service, each once: a ClusterIP before an external one. Headless ones have none."""
    if not service.cluster_ips:
        return
    seen: set[Address] = set()
    for kind, found in (
        (ServiceAddressKind.CLUSTER_IP, service.cluster_ips),
        (ServiceAddressKind.EXTERNAL_IP, service.external_ips),
        (ServiceAddressKind.LOAD_BALANCER_IP, service.load_balancer_ips),
    ):
        for address in found:
            if address not in seen:
                seen.add(address)
                yield kind, address


def allowed(kind: ServiceAddressKind, address: Address, policy: AdvertisePolicy) -> bool:
    """Whether the allow-list holds an address: empty means every ClusterIP, but no external address."""
    cidrs = policy_of(kind, policy).cidrs
    if kind is ServiceAddressKind.CLUSTER_IP and not cidrs:
        return True
    return any(address in cidr for cidr in cidrs)


def policy_of(kind: ServiceAddressKind, policy: AdvertisePolicy) -> AddressKind:
    match kind:
        case ServiceAddressKind.CLUSTER_IP:
            return policy.cluster_ips
        case ServiceAddressKind.EXTERNAL_IP:
            return policy.external_ips
        case ServiceAddressKind.LOAD_BALANCER_IP:
            return policy.load_balancer_ips


def service_verdicts(
    service: Service,
    slices: Iterable[EndpointSlice],
    node: Here,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
) -> tuple[ServiceVerdict, ...]:
    """The verdicts of one service, of its own slices, this node, the policy and ClusterIPs alone."""
    slices = tuple(slices)
    return tuple(
        ServiceVerdict(
            service.name,
            address,
            kind,
            _refused(service, kind, address, node, policy, owners)
            or _by_endpoints(service, kind, slices, address.version, node),
        )
        for kind, address in addresses(service)
    )


def _refused(
    service: Service,
    kind: ServiceAddressKind,
    address: Address,
    node: Here,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
) -> Reason | None:
    external = kind is not ServiceAddressKind.CLUSTER_IP
    balancer = service.load_balancer_class if kind is ServiceAddressKind.LOAD_BALANCER_IP else None
    if LABEL_PROXY in service.labels:
        return Reason.OTHER_PROXY
    asked = service.annotations.get(ANNOTATION_ADVERTISE)
    if asked == "false":
        return Reason.OPTED_OUT
    if asked != "true" and not policy.service_selector.matches(service.labels):
        return Reason.NOT_SELECTED
    if not policy_of(kind, policy).enabled:
        return Reason.KIND_DISABLED
    if not allowed(kind, address, policy):
        return Reason.OUTSIDE_ALLOW_LIST
    if balancer not in (None, LOAD_BALANCER_CLASS):
        return Reason.OTHER_LOAD_BALANCER_CLASS
    if owners.get(address, service.name) != service.name:
        return Reason.CONFLICTING_OWNER
    if not node.known:
        return Reason.NODE_UNKNOWN
    if not node.ready:
        return Reason.NODE_NOT_READY
    if external and node.excluded:
        return Reason.NODE_EXCLUDED
    return None


def nowhere_advertised(
    service: Service, policy: AdvertisePolicy, owners: Mapping[Address, ObjectName]
) -> Iterator[ServiceVerdict]:
    """External and load-balancer addresses that no node announces, whatever the endpoints: not allowed,
    another's, or given by us while their kind is off."""
    ours = service.load_balancer_class == LOAD_BALANCER_CLASS
    for kind, address in addresses(service):
        if kind is ServiceAddressKind.CLUSTER_IP:
            continue
        given = ours and kind is ServiceAddressKind.LOAD_BALANCER_IP
        reason = _refused(service, kind, address, Here(""), policy, owners)
        if reason in (Reason.OUTSIDE_ALLOW_LIST, Reason.CONFLICTING_OWNER) or (
            reason is Reason.KIND_DISABLED and given
        ):
            yield ServiceVerdict(service.name, address, kind, reason)


def _by_endpoints(
    service: Service,
    kind: ServiceAddressKind,
    slices: tuple[EndpointSlice, ...],
    version: int,
    node: Here,
) -> Reason:
    found = [serving(service, port, slices, version, node) for port in service.ports]
    if not any(port.cluster for port in found):
        return Reason.NO_ENDPOINTS
    local_only = (
        service.internal_traffic_local
        if kind is ServiceAddressKind.CLUSTER_IP
        else service.external_traffic_local
    )
    # Those that terminate are left their connections, but draw no new ones while others are ready.
    if (
        local_only
        and not any(port.local_ready for port in found)
        and not any(port.local and not port.any_ready for port in found)
    ):
        return Reason.NO_LOCAL_ENDPOINTS
    if node.draining and (any(port.elsewhere_ready for port in found) if local_only else node.others):
        return Reason.NODE_DRAINING
    return Reason.ADVERTISE
