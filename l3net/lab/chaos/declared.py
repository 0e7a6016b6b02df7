"""What a run declares beside its topology: services to probe, namespaces that are closed, policies.
Documents alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_network

from l3net.lab.chaos.path import ECHO_PORT, SERVICE_PORT, Declared, Place
from l3net.lab.manifests import Document
from l3net.lab.topology import ServiceSpec, Topology
from l3net.model import Address, Prefix
from l3net.naming import ANNOTATION_LOAD_BALANCING, CONSISTENT, LABEL_TENANT

#: Of the LoadBalancer service. TEST-NET-3 (RFC 5737) and a piece of the unique local range (RFC 4193).
BALANCED_RANGES = (ip_network("203.0.113.0/24"), ip_network("fd00:10:113::/112"))
CLOSED, TENANTS = "chaos-closed", ("chaos-a", "chaos-b")
_CLUSTER, _BALANCED = "chaos-cluster", "chaos-balanced"
#: Which addresses of the service ranges are ours: high enough to be nobody's.
_FIRST = 200


def numbered(ranges: Iterable[Prefix], number: int, versions: Sequence[int]) -> tuple[Address, ...]:
    """The address of that number in the first range of each family."""
    found: dict[int, Address] = {}
    for cidr in ranges:
        if cidr.version in versions and cidr.num_addresses > number:
            found.setdefault(cidr.version, cidr[number])
    return tuple(found.values())


def addresses(topology: Topology) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[Address, ...]]:
    """ClusterIPs of both services, and the load balancer's addresses."""
    versions = topology.versions
    return (
        numbered(topology.service_cidrs, _FIRST, versions),
        numbered(topology.service_cidrs, _FIRST + 1, versions),
        numbered(BALANCED_RANGES, 10, versions),
    )


def judged(topology: Topology, declared: Declared) -> Topology:
    """The topology with our services, for what routers are to hold."""
    cluster, inner, outer = addresses(topology)
    pods = tuple(place.pod for place in declared.endpoints)
    added = (ServiceSpec(_CLUSTER, cluster, pods), ServiceSpec(_BALANCED, (*inner, *outer), pods))
    return replace(
        topology,
        services=(*topology.services, *added),
        service_cidrs=(*topology.service_cidrs, *BALANCED_RANGES),
    )


def fixed_documents(topology: Topology) -> list[Document]:
    """Namespaces, the closed one's policy, services."""
    cluster, inner, outer = addresses(topology)
    clients = [
        {"ipBlock": {"cidr": str(subnet)}}
        for client in topology.clients
        for link in topology.links_of(client.name)
        for subnet in link.subnets
    ]
    return [
        namespace(CLOSED),
        *(namespace(name, {LABEL_TENANT: name}) for name in TENANTS),
        policy(
            CLOSED, "clients-alone", {"podSelector": {}, "ingress": [{"from": clients}] if clients else []}
        ),
        service(_CLUSTER, cluster),
        service(_BALANCED, inner, outer, {ANNOTATION_LOAD_BALANCING: CONSISTENT}),
    ]


def slices(
    topology: Topology, places: Sequence[Place], unready: frozenset[str] = frozenset()
) -> list[Document]:
    """The EndpointSlices of both services; the pods of hosts in `unready` are not ready."""
    return [
        endpoint_slice(name, version, places, unready)
        for name in (_CLUSTER, _BALANCED)
        for version in topology.versions
    ]


def namespace(name: str, labels: dict[str, str] | None = None) -> Document:
    metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name, **(labels or {})}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def pod(place: Place, where: str, uid: str) -> Document:
    """A Pod that runs: what nodes know of those of other nodes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": where, "name": place.pod, "uid": uid, "labels": {"chaos": "yes"}},
        "spec": {"nodeName": place.host},
        "status": {"phase": "Running", "podIPs": [{"ip": str(address)} for address in place.addresses]},
    }


def policy(where: str, name: str, spec: dict[str, object]) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": where, "name": name},
        "spec": {"policyTypes": ["Ingress"], **spec},
    }


def service(
    name: str,
    inner: Sequence[Address],
    outer: Sequence[Address] = (),
    annotations: dict[str, str] | None = None,
) -> Document:
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": SERVICE_PORT, "targetPort": ECHO_PORT}
        for protocol in ("TCP", "UDP")
    ]
    families = [f"IPv{address.version}" for address in inner]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "annotations": dict(annotations or {})},
        "spec": {
            "type": "LoadBalancer" if outer else "ClusterIP",
            "clusterIP": str(inner[0]),
            "clusterIPs": [str(address) for address in inner],
            "ipFamilies": families,
            "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
            "ports": ports,
        },
        **({"status": {"loadBalancer": {"ingress": [{"ip": str(a)} for a in outer]}}} if outer else {}),
    }


def endpoint_slice(
    name: str, version: int, places: Sequence[Place], unready: frozenset[str] = frozenset()
) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": f"{name}-ipv{version}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": f"IPv{version}",
        "endpoints": [
            {
                "addresses": [str(address)],
                "conditions": {"ready": place.host not in unready},
                "nodeName": place.host,
                "targetRef": {"kind": "Pod", "namespace": "default", "name": place.pod},
            }
            for place in places
            for address in place.addresses
            if address.version == version
        ],
        "ports": [
            {"name": protocol.lower(), "protocol": protocol, "port": ECHO_PORT} for protocol in ("TCP", "UDP")
        ],
    }


def with_ranges(documents: Iterable[Document], versions: Sequence[int]) -> list[Document]:
    """The documents of BGP, with the load balancer's ranges announced and a drain that takes 2 s."""
    cidrs = [str(cidr) for cidr in BALANCED_RANGES if cidr.version in versions]
    changed: list[Document] = []
    for document in documents:
        if document.get("kind") == "BGPConfiguration":
            spec = document["spec"]
            assert isinstance(spec, dict)  # noqa: S101 - ours
            advertise = {**spec.get("advertise", {}), "loadBalancerIPs": {"enabled": True, "cidrs": cidrs}}
            document = {**document, "spec": {**spec, "advertise": advertise, "drain": {"wait": 2}}}  # noqa: PLW2901
        changed.append(document)
    return changed
