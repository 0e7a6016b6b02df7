"""Which endpoints a packet to a service may reach, as the Kubernetes documents say, and nothing of l3net.

From "Virtual IPs and Service Proxies", "Service Internal Traffic Policy", "Traffic distribution" and
"EndpointSlices" of kubernetes.io, KEP-1669 (terminating endpoints) and the API reference. It reads documents
as they are written, and is as slow as it is plain.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Document = dict[str, Any]
PROXY, HEADLESS = "service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"


class Origin(enum.Enum):
    """Where a packet begins, as a node sees it."""

    POD = "a pod of the node"
    NODE = "the node itself"
    OUTSIDE = "elsewhere"


class Fate(enum.Enum):
    """What becomes of a packet that reaches no endpoint."""

    NO_SERVICE = "nobody's"
    REFUSED = "refused"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Packet:
    """To a service, from an address."""

    origin: Origin
    source: str
    address: str
    protocol: str  # TCP, UDP, SCTP
    port: int


#: Address and port of each endpoint that it may reach, or what becomes of it.
Answer = frozenset[tuple[str, int]] | Fate


def answer(documents: Sequence[Document], node: Document, packet: Packet) -> Answer:
    """What a node does with a packet, with these Services and EndpointSlices."""
    for service in documents:
        if service["kind"] == "Service" and _served(service):
            for port in service["spec"]["ports"]:
                where = _where(service, port, node, packet)
                if where is not None:
                    return _of_port(documents, service, port, node, packet, where)
    return Fate.NO_SERVICE


def _served(service: Document) -> bool:
    labels, spec = service["metadata"].get("labels", {}), service["spec"]
    if PROXY in labels or HEADLESS in labels or spec.get("type") == "ExternalName":
        return False
    return spec.get("clusterIP", "None") != "None"


def _where(service: Document, port: Document, node: Document, packet: Packet) -> str | None:
    """By which of its addresses a service is meant."""
    spec = service["spec"]
    if port.get("protocol", "TCP") != packet.protocol:
        return None
    if port["port"] == packet.port:
        if packet.address in spec["clusterIPs"]:
            return "clusterIP"
        if packet.address in spec.get("externalIPs", ()):
            return "externalIP"
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        if any(each["ip"] == packet.address and each.get("ipMode", "VIP") == "VIP" for each in ingress):
            return "loadBalancer"
    addresses = [each["address"] for each in node["status"]["addresses"]]
    families = {ip_address(each).version for each in spec["clusterIPs"]}
    own = packet.address in addresses and ip_address(packet.address).version in families
    return "nodePort" if own and port.get("nodePort") == packet.port else None


def _of_port(
    documents: Sequence[Document],
    service: Document,
    port: Document,
    node: Document,
    packet: Packet,
    where: str,
) -> Answer:
    spec = service["spec"]
    ranges = spec.get("loadBalancerSourceRanges", ())
    if where == "loadBalancer" and ranges and spec["type"] == "LoadBalancer":
        source = ip_address(packet.source)
        if not any(source in ip_network(each) for each in ranges):
            return Fate.DROPPED
    if where == "clusterIP":
        local = spec.get("internalTrafficPolicy") == "Local"
    else:
        local = spec.get("externalTrafficPolicy") == "Local" and packet.origin is Origin.OUTSIDE
    endpoints = list(_endpoints(documents, service, port, ip_address(packet.address).version))
    chosen = _local(endpoints, node) if local else _cluster(endpoints, node)
    return frozenset(chosen) or Fate.REFUSED


def _endpoints(
    documents: Iterable[Document], service: Document, port: Document, version: int
) -> Iterator[tuple[Document, tuple[str, int]]]:
    """Each with its address and the port that the name of the service's port has there."""
    for found in documents:
        if found["kind"] != "EndpointSlice" or found["addressType"] != f"IPv{version}":
            continue
        labels = found["metadata"].get("labels", {})
        of = (found["metadata"]["namespace"], labels.get("kubernetes.io/service-name"))
        if of != (service["metadata"]["namespace"], service["metadata"]["name"]):
            continue
        if PROXY in labels or HEADLESS in labels:
            continue
        for target in found["ports"]:
            same = target.get("name", "") == port.get("name", "")
            if same and target.get("protocol", "TCP") == port.get("protocol", "TCP") and target.get("port"):
                for each in found["endpoints"]:
                    yield each, (each["addresses"][0], target["port"])


def _ready(endpoint: Document) -> bool:
    """Unknown is ready."""
    return endpoint.get("conditions", {}).get("ready") is not False


def _waning(endpoint: Document) -> bool:
    """It terminates, and still serves."""
    conditions = endpoint.get("conditions", {})
    serving = conditions.get("serving", conditions.get("ready"))
    return conditions.get("terminating") is True and serving is not False


def _local(endpoints: list[tuple[Document, tuple[str, int]]], node: Document) -> list[tuple[str, int]]:
    here = [(each, to) for each, to in endpoints if each.get("nodeName") == node["metadata"]["name"]]
    ready = [to for each, to in here if _ready(each)]
    return ready or [to for each, to in here if _waning(each)]


def _cluster(endpoints: list[tuple[Document, tuple[str, int]]], node: Document) -> list[tuple[str, int]]:
    ready = [(each, to) for each, to in endpoints if _ready(each)]
    if not ready:
        return [to for each, to in endpoints if _waning(each)]
    wanted = {"forNodes": node["metadata"]["name"], "forZones": node["metadata"]["labels"].get(ZONE)}
    for field, name in wanted.items():
        named = [[hint["name"] for hint in each.get("hints", {}).get(field, ())] for each, _ in ready]
        if all(named) and any(name in each for each in named):
            return [to for (_, to), each in zip(ready, named, strict=True) if name in each]
    return [to for _, to in ready]
