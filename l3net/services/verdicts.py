"""Which service addresses this node announces, and why not the others."""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from l3net.addresses import host_prefix
from l3net.model import (
    NODE_PORTS,
    Address,
    AddressKind,
    AdvertisePolicy,
    ClusterState,
    ObjectName,
    Prefix,
    ServerKey,
    Service,
    ServicePort,
    node_addresses,
)
from l3net.naming import ANNOTATION_ADVERTISE, LABEL_HEADLESS, LABEL_PROXY, LOAD_BALANCER_CLASS
from l3net.services.endpoints import Here, OfService, by_service, here

#: Sorts services by who keeps what several claim.
Rank: TypeAlias = tuple[bool, str, ObjectName]


class ServiceAddressKind(enum.Enum):
    """Where in a Service an address stands."""

    CLUSTER_IP = "clusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER_IP = "loadBalancerIP"
    NODE_PORT = "nodePort"  # no address: a port of every node


class Reason(enum.Enum):
    """Why a service address is announced or not. The value is what users see."""

    ADVERTISE = "advertise"
    OTHER_PROXY = "otherProxy"  # the label service.kubernetes.io/service-proxy-name
    HEADLESS = "headless"  # the label service.kubernetes.io/headless
    OPTED_OUT = "optedOut"  # the annotation l3net.io/advertise: "false"
    NOT_SELECTED = "notSelected"  # advertise.serviceSelector, and no annotation l3net.io/advertise: "true"
    KIND_DISABLED = "kindDisabled"
    OUTSIDE_ALLOW_LIST = "outsideAllowList"
    OTHER_LOAD_BALANCER_CLASS = "otherLoadBalancerClass"
    CONFLICTING_OWNER = "conflictingOwner"  # it is the ClusterIP of another service
    NODE_ADDRESS = "nodeAddress"  # a node has it: routers would send what is for that node elsewhere
    CONFLICTING_PORT = "conflictingPort"  # an older service answers there on every port of this one
    NODE_UNKNOWN = "nodeUnknown"  # no Node object for this node
    NODE_NOT_READY = "nodeNotReady"
    NODE_EXCLUDED = "nodeExcluded"
    NO_ENDPOINTS = "noEndpoints"
    NO_LOCAL_ENDPOINTS = "noLocalEndpoints"
    NODE_DRAINING = "nodeDraining"  # and another node serves it


@dataclass(frozen=True, slots=True)
class ServiceVerdict:
    """The decision about one address of one service on this node.

    `lost` names what the service would answer to there and does not, since another has it.
    """

    service: ObjectName
    address: Address
    kind: ServiceAddressKind
    reason: Reason
    lost: tuple[str, ...] = ()

    @property
    def advertised(self) -> bool:
        return self.reason is Reason.ADVERTISE


def advertised(state: ClusterState, me: str, *, draining: bool = False) -> tuple[ServiceVerdict, ...]:
    """A verdict for each address of each service, by service name."""
    node = here(state.nodes, me, draining=draining, drain=state.configuration.drain)
    slices = by_service(state.slices.values())
    owners = cluster_ip_owners(state.services.values())
    policy = state.configuration.advertise
    holders = port_holders(state.services.values(), policy, owners)
    of_nodes = node_addresses(state.nodes.values())
    return tuple(
        verdict
        for name in sorted(state.services)
        for verdict in service_verdicts(
            OfService(state.services[name], slices.get(name, ()), node), policy, owners, holders, of_nodes
        )
    )


def announced(verdicts: Iterable[ServiceVerdict]) -> frozenset[Prefix]:
    """The host prefixes to announce: a shared address as long as one service wants it."""
    return frozenset(host_prefix(verdict.address) for verdict in verdicts if verdict.advertised)


def cluster_ip_owners(services: Iterable[Service]) -> dict[Address, ObjectName]:
    """Whose each ClusterIP is. An external address cannot take it (CVE-2020-8554)."""
    owners: dict[Address, ObjectName] = {}
    for service in sorted(services, key=seniority):
        for address in service.cluster_ips:
            owners.setdefault(address, service.name)
    return owners


def seniority(service: Service) -> Rank:
    """Of two services that claim the same, the one that comes first in this order keeps it: the older one, so
    that nobody takes another's traffic by a name. Without a time of creation, as in manifests: by name."""
    return (not service.created, service.created, service.name)


def server_key(address: Address, port: ServicePort) -> ServerKey:
    return (address, port.protocol.lower(), port.port)


def claims(
    service: Service, policy: AdvertisePolicy, owners: Mapping[Address, ObjectName]
) -> Iterator[tuple[ServiceAddressKind, ServerKey, ServicePort]]:
    """What a service would answer to, whatever its endpoints and other services' claims.

    An external or load-balancer address counts only inside its allow-list: else whoever may write a Service
    could draw the traffic of pods to any address (CVE-2020-8554). Another's ClusterIP is that service's.
    """
    if another_serves(service):
        return
    for kind, address in addresses(service):
        if kind is not ServiceAddressKind.CLUSTER_IP and not allowed(kind, address, policy):
            continue
        if owners.get(address, service.name) != service.name:
            continue
        for port in service.ports:
            yield kind, server_key(address, port), port
    for key, port in node_ports(service):
        yield ServiceAddressKind.NODE_PORT, key, port


def node_ports(service: Service, version: int | None = None) -> Iterator[tuple[ServerKey, ServicePort]]:
    """The NodePorts of a service, in the families of its ClusterIPs, or in one of them."""
    if not any(port.node_port for port in service.ports):
        return
    for each in sorted({address.version for address in service.cluster_ips}):
        for port in service.ports:
            if port.node_port and version in (None, each):
                yield (NODE_PORTS[each], port.protocol.lower(), port.node_port), port


def port_holders(
    services: Iterable[Service], policy: AdvertisePolicy, owners: Mapping[Address, ObjectName]
) -> dict[ServerKey, ObjectName]:
    """Who answers to each external or load-balancer address and port, and to each NodePort: the senior of
    those that claim it."""
    holders: dict[ServerKey, ObjectName] = {}
    for service in sorted(filter(_outward, services), key=seniority):
        for kind, key, _ in claims(service, policy, owners):
            if kind is not ServiceAddressKind.CLUSTER_IP:
                holders.setdefault(key, service.name)
    return holders


def _outward(service: Service) -> bool:
    outside = service.external_ips or service.load_balancer_ips
    return bool(outside) or any(port.node_port for port in service.ports)


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
        case ServiceAddressKind.NODE_PORT:  # neither announced nor restricted
            return AddressKind()


def service_verdicts(
    endpoints: OfService,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
    holders: Mapping[ServerKey, ObjectName],
    of_nodes: Container[Address],
) -> tuple[ServiceVerdict, ...]:
    """The verdicts of one service, of its own slices, this node, the policy, and what others hold alone.

    `holders`: who answers to an address and port; what is not in it is the service's own. `of_nodes`: see
    model.node_addresses.
    """
    service, node = endpoints.service, endpoints.node
    found = []
    for kind, address in addresses(service):
        reason = _refused(service, kind, address, policy, owners)
        lost = _lost(service, address, owners, holders) if reason in _CLAIMS else ()
        if reason is None and len(lost) == len(service.ports) > 0:
            reason = Reason.CONFLICTING_PORT
        if reason is None and address in of_nodes:
            reason = Reason.NODE_ADDRESS
        reason = reason or _not_here(kind, node)
        reason = reason or _by_endpoints(endpoints, kind, address.version)
        if kind is ServiceAddressKind.CLUSTER_IP:
            lost += _lost_node_ports(service, address.version, holders)
        found.append(ServiceVerdict(service.name, address, kind, reason, lost))
    return tuple(found)


#: Whatever the endpoints, and on every node.
_NOWHERE: Final = (
    Reason.CONFLICTING_PORT,
    Reason.OUTSIDE_ALLOW_LIST,
    Reason.CONFLICTING_OWNER,
    Reason.NODE_ADDRESS,
)
#: What is refused for another reason is claimed by nobody, and so nothing of it is lost to another service.
_CLAIMS: Final = (None, Reason.CONFLICTING_OWNER)


def _lost(
    service: Service,
    address: Address,
    owners: Mapping[Address, ObjectName],
    holders: Mapping[ServerKey, ObjectName],
) -> tuple[str, ...]:
    """What other services answer to of what this one would."""
    owner = owners.get(address, service.name)
    if owner != service.name:
        return (f"it is the ClusterIP of {owner}",)
    if not holders:
        return ()
    return tuple(
        f"port {port.port}/{port.protocol} is answered for {holder}, which had it first"
        for port in service.ports
        if (holder := holders.get(server_key(address, port), service.name)) != service.name
    )


def _lost_node_ports(
    service: Service, version: int, holders: Mapping[ServerKey, ObjectName]
) -> tuple[str, ...]:
    """NodePorts that other services have. Told of with the ClusterIP of the family, and announced is that all
    the same."""
    if not holders or another_serves(service):
        return ()
    return tuple(
        f"node port {port.node_port}/{port.protocol} is answered for {holder}, which had it first"
        for key, port in node_ports(service, version)
        if (holder := holders.get(key, service.name)) != service.name
    )


def another_serves(service: Service) -> bool:
    """Whether a label says that a service is another proxy's or nobody's."""
    return LABEL_PROXY in service.labels or LABEL_HEADLESS in service.labels


def _refused(
    service: Service,
    kind: ServiceAddressKind,
    address: Address,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
) -> Reason | None:
    balancer = service.load_balancer_class if kind is ServiceAddressKind.LOAD_BALANCER_IP else None
    if LABEL_PROXY in service.labels:
        return Reason.OTHER_PROXY
    if LABEL_HEADLESS in service.labels:
        return Reason.HEADLESS
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
    return None


def _not_here(kind: ServiceAddressKind, node: Here) -> Reason | None:
    if not node.known:
        return Reason.NODE_UNKNOWN
    if not node.ready:
        return Reason.NODE_NOT_READY
    if kind is not ServiceAddressKind.CLUSTER_IP and node.excluded:
        return Reason.NODE_EXCLUDED
    return None


def nowhere_advertised(
    service: Service,
    policy: AdvertisePolicy,
    owners: Mapping[Address, ObjectName],
    holders: Mapping[ServerKey, ObjectName],
    of_nodes: Container[Address],
) -> Iterator[ServiceVerdict]:
    """External and load-balancer addresses that no node announces, whatever the endpoints: not allowed,
    another's or a node's, or given by us while their kind is off; and those of which another service has a
    port.
    ClusterIPs of services whose NodePort another has."""
    ours = service.load_balancer_class == LOAD_BALANCER_CLASS
    for kind, address in addresses(service):
        if kind is ServiceAddressKind.CLUSTER_IP:
            if lost := _lost_node_ports(service, address.version, holders):
                yield ServiceVerdict(service.name, address, kind, Reason.CONFLICTING_PORT, lost)
            continue
        given = ours and kind is ServiceAddressKind.LOAD_BALANCER_IP
        reason = _refused(service, kind, address, policy, owners)
        lost = _lost(service, address, owners, holders) if reason in _CLAIMS else ()
        if reason is None and lost:
            reason = Reason.CONFLICTING_PORT
        if reason is None and address in of_nodes:
            reason = Reason.NODE_ADDRESS
        if reason in _NOWHERE or (reason is Reason.KIND_DISABLED and given):
            yield ServiceVerdict(service.name, address, kind, reason, lost)


def _by_endpoints(endpoints: OfService, kind: ServiceAddressKind, version: int) -> Reason:
    service, node = endpoints.service, endpoints.node
    found = [endpoints.serving(port, version) for port in service.ports]
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
