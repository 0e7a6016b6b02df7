"""Node, Namespace, Secret, Service (core/v1) and EndpointSlice (discovery.k8s.io/v1) as facts.

These objects are Kubernetes' own: fields l3net does not read are not looked at, a wrong type in one it reads
is an error.
"""

from __future__ import annotations

import base64
import binascii
import sys

from l3net.errors import ManifestError
from l3net.kube.fields import Field, type_name
from l3net.model import (
    Address,
    Endpoint,
    EndpointSlice,
    Labels,
    Namespace,
    Node,
    ObjectName,
    Prefix,
    Secret,
    Service,
    ServicePort,
    Taint,
)
from l3net.naming import ANNOTATION_AS_NUMBER, ANNOTATION_BLOCKS, API_GROUP

LABEL_SERVICE_NAME = "kubernetes.io/service-name"
_PROTOCOLS = ("TCP", "UDP", "SCTP")
#: What kubelet writes into the message of the condition Ready while it ends the pods of a host that goes
#: down (graceful node shutdown, pkg/kubelet/nodeshutdown).
SHUTTING_DOWN = "node is shutting down"


def own_annotations(metadata: Field) -> Labels:
    """Annotations of l3net's own domain. Others are left out: they are large and change without meaning."""
    every = metadata["annotations"].labels()
    return {key: value for key, value in every.items() if key.startswith(f"{API_GROUP}/")}


def node(document: Field, name: ObjectName) -> Node:
    metadata, spec, status = document["metadata"], document["spec"], document["status"]
    annotations = own_annotations(metadata)
    blocks = spec["podCIDRs"].prefixes()
    if not blocks and spec["podCIDR"].text(default=""):
        blocks = (spec["podCIDR"].prefix(),)
    blocks += tuple(block for block in _added_blocks(metadata, annotations) if block not in blocks)
    return Node(
        name=name.name,
        addresses=tuple(
            item["address"].address()
            for item in status["addresses"].items()
            if item["type"].text() == "InternalIP"
        ),
        blocks=blocks,
        as_number=_as_number(metadata, annotations),
        labels=metadata["labels"].labels(),
        annotations=annotations,
        ready=all(
            item["status"].text() == "True"
            for item in status["conditions"].items()
            if item["type"].text() == "Ready"
        ),
        unschedulable=spec["unschedulable"].flag(default=False),
        taints=frozenset(
            Taint(sys.intern(item["key"].text()), sys.intern(item["effect"].text(default="")))
            for item in spec["taints"].items()
        ),
        shutting_down=any(
            item["status"].text() != "True" and SHUTTING_DOWN in item["message"].text(default="")
            for item in status["conditions"].items()
            if item["type"].text() == "Ready"
        ),
    )


def _added_blocks(metadata: Field, annotations: Labels) -> tuple[Prefix, ...]:
    text = annotations.get(ANNOTATION_BLOCKS)
    if not text:
        return ()
    path = metadata["annotations"][ANNOTATION_BLOCKS].path
    return tuple(Field(path, part.strip()).prefix() for part in text.split(","))


def _as_number(metadata: Field, annotations: Labels) -> int | None:
    text = annotations.get(ANNOTATION_AS_NUMBER)
    if text is None:
        return None
    field = metadata["annotations"][ANNOTATION_AS_NUMBER]
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise field.wrong("must be an AS number, 1 to 4294967295")
    return Field(field.path, int(text)).integer(1, 2**32 - 1)


def namespace(document: Field, name: ObjectName) -> Namespace:
    return Namespace(name.name, document["metadata"]["labels"].labels())


def secret(document: Field, name: ObjectName) -> Secret:
    """`stringData` wins over `data`, as in the API server. No error quotes a value."""
    values: dict[str, bytes] = {}
    for key, field in _entries(document["data"]):
        # Go's decoder, and so the API server, passes over line ends.
        packed = field.text(default="").replace("\n", "").replace("\r", "")
        try:
            values[key] = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            raise field.wrong("is not base64 (plain text goes under stringData)") from None
    for key, field in _entries(document["stringData"]):
        if field.present and not isinstance(field.value, str):
            raise field.wrong(f"must be a string, not {type_name(field.value)}; quote it")
        values[key] = field.text(default="").encode()
    return Secret(name, values)


def _entries(field: Field) -> list[tuple[str, Field]]:
    if field.value is None:
        return []
    if not isinstance(field.value, dict):
        raise field.wrong(f"must be an object, not {type_name(field.value)}")
    return [(str(key), field[key]) for key in field.value]


def service(document: Field, name: ObjectName) -> Service:
    metadata, spec = document["metadata"], document["spec"]
    kind = spec["type"].text(default="ClusterIP")
    # An ExternalName service is an alias in DNS; whatever else it carries is not served by anyone.
    external_name = kind == "ExternalName"
    return Service(
        name=name,
        type=sys.intern(kind),
        cluster_ips=() if external_name else _cluster_ips(spec),
        external_ips=() if external_name else tuple(item.address() for item in spec["externalIPs"].items()),
        load_balancer_ips=_ingress(document["status"]) if kind == "LoadBalancer" else (),
        wanted_ip=_wanted_ip(spec) if kind == "LoadBalancer" else None,
        ports=() if external_name else tuple(_service_port(item) for item in spec["ports"].items()),
        internal_traffic_local=_local(spec["internalTrafficPolicy"]),
        external_traffic_local=_local(spec["externalTrafficPolicy"]),
        client_ip_affinity=_client_ip(spec["sessionAffinity"]),
        load_balancer_class=spec["loadBalancerClass"].optional_text(),
        publish_not_ready=spec["publishNotReadyAddresses"].flag(default=False),
        labels=metadata["labels"].labels(),
        annotations=own_annotations(metadata),
    )


def _cluster_ips(spec: Field) -> tuple[Address, ...]:
    fields = list(spec["clusterIPs"].items()) or [spec["clusterIP"]]
    return tuple(field.address() for field in fields if field.text(default="") not in ("", "None"))


def _ingress(status: Field) -> tuple[Address, ...]:
    """The addresses that nodes serve: not those of `ipMode: Proxy`, where a balancer of its own answers."""
    return tuple(
        item["ip"].address()
        for item in status["loadBalancer"]["ingress"].items()
        if item["ip"].text(default="") and item["ipMode"].text(default="VIP") == "VIP"
    )


def _wanted_ip(spec: Field) -> Address | None:
    """The API server takes any text here, and some clouds mean a name by it: then nothing is wanted of us."""
    try:
        return spec["loadBalancerIP"].address() if spec["loadBalancerIP"].text(default="") else None
    except ManifestError:
        return None


def _service_port(field: Field) -> ServicePort:
    return ServicePort(
        sys.intern(field["name"].text(default="")), _protocol(field), field["port"].integer(1, 65535)
    )


def _protocol(field: Field) -> str:
    protocol = field["protocol"].text(default="TCP")
    if protocol not in _PROTOCOLS:
        raise field["protocol"].wrong(f"must be one of {', '.join(_PROTOCOLS)}")
    return sys.intern(protocol)


def _local(field: Field) -> bool:
    if field.text(default="Cluster") not in ("Cluster", "Local", ""):
        raise field.wrong("must be Cluster or Local")
    return field.value == "Local"


def _client_ip(field: Field) -> bool:
    if field.text(default="None") not in ("None", "ClientIP", ""):
        raise field.wrong("must be None or ClientIP")
    return field.value == "ClientIP"


def endpoint_slice(document: Field, name: ObjectName) -> EndpointSlice | None:
    """None for a slice without the service label: someone else's. One of names (FQDN) has no endpoints."""
    labels = document["metadata"]["labels"].labels()
    owner = labels.get(LABEL_SERVICE_NAME)
    if not owner:
        return None
    kind = document["addressType"].text()
    if kind not in ("IPv4", "IPv6", "FQDN"):
        raise document["addressType"].wrong("must be IPv4, IPv6 or FQDN")
    return EndpointSlice(
        name=name,
        service=ObjectName(name.namespace, owner),
        endpoints=()
        if kind == "FQDN"
        else tuple(_endpoint(item, 4 if kind == "IPv4" else 6) for item in document["endpoints"].items()),
        ports={
            sys.intern(item["name"].text(default="")): (_protocol(item), item["port"].integer(1, 65535))
            for item in document["ports"].items()
            if item["port"].present  # null: every port, which no balancer can use (as in kube-proxy)
        },
    )


def _endpoint(field: Field, version: int) -> Endpoint:
    """The first address only: the API calls all of them one endpoint, and kube-proxy reads the first."""
    first = next(field["addresses"].items(), None)
    if first is None:
        raise field["addresses"].wrong("is required")
    address = first.address()
    if address.version != version:
        raise first.wrong(f"{address} is not an IPv{version} address, as addressType says")
    conditions = field["conditions"]
    ready = conditions["ready"].flag(default=True)
    where = field["nodeName"].optional_text()
    return Endpoint(
        address=address,
        ready=ready,
        serving=conditions["serving"].flag(default=ready),
        terminating=conditions["terminating"].flag(default=False),
        node=sys.intern(where) if where else None,
    )
