"""Node, Namespace, Secret, Service (core/v1) and EndpointSlice (discovery.k8s.io/v1) as facts.

These objects are Kubernetes' own: fields l3net does not read are not looked at, a wrong type in one it reads
is an error. An API server takes values in some lists that mean nothing to us (a Node's address may be a name,
an external IP was once taken with leading zeros): such an element is left out, and the object is used.
"""

from __future__ import annotations

import base64
import binascii
import sys

from l3net.addresses import parse_address
from l3net.errors import ManifestError
from l3net.kube.fields import Field, type_name
from l3net.kube.pods import allowed_addresses, listed
from l3net.kube.times import created
from l3net.model import (
    Address,
    Endpoint,
    EndpointSlice,
    Hints,
    Labels,
    Namespace,
    Node,
    ObjectName,
    Prefix,
    Secret,
    Service,
    ServiceCidr,
    ServicePort,
    Taint,
)
from l3net.naming import (
    ANNOTATION_AS_NUMBER,
    ANNOTATION_BLOCKS,
    ANNOTATION_SNAT_ADDRESSES,
    API_GROUP,
    LABEL_HEADLESS,
    LABEL_PROXY,
    MOST_SNAT_ADDRESSES,
)

#: The older way to say spec.loadBalancerSourceRanges (k8s.io/api/core/v1 annotation_key_constants.go).
ANNOTATION_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
#: What sessionAffinityConfig.clientIP.timeoutSeconds is where nothing is said (core/v1).
DEFAULT_AFFINITY = 10800
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
    blocks = spec["podCIDRs"].each(Field.prefix)
    if not spec["podCIDRs"].value and spec["podCIDR"].text(default=""):
        blocks = spec["podCIDR"].alone(Field.prefix)
    blocks += tuple(block for block in _added_blocks(metadata, annotations) if block not in blocks)
    conditions = tuple(filter(None, status["conditions"].each(_ready_condition)))
    return Node(
        name=name.name,
        addresses=tuple(filter(None, status["addresses"].each(_internal_address))),
        blocks=blocks,
        as_number=_as_number(metadata, annotations),
        snat_addresses=_snat_addresses(metadata),
        labels=metadata["labels"].labels(),
        annotations=annotations,
        ready=all(each[0] for each in conditions),
        unschedulable=spec["unschedulable"].flag(default=False),
        taints=frozenset(spec["taints"].each(_taint)),
        deleting=metadata["deletionTimestamp"].present,
        shutting_down=any(not ready and SHUTTING_DOWN in message for ready, message in conditions),
    )


def _internal_address(field: Field) -> Address | None:
    return field["address"].address() if field["type"].text() == "InternalIP" else None


def _ready_condition(field: Field) -> tuple[bool, str] | None:
    """Whether the condition Ready is so, and its message; None for another condition."""
    if field["type"].text() != "Ready":
        return None
    return field["status"].text() == "True", field["message"].text(default="")


def _taint(field: Field) -> Taint:
    return Taint(sys.intern(field["key"].text()), sys.intern(field["effect"].text(default="")))


def _added_blocks(metadata: Field, annotations: Labels) -> tuple[Prefix, ...]:
    text = annotations.get(ANNOTATION_BLOCKS)
    if not text:
        return ()
    path = metadata["annotations"][ANNOTATION_BLOCKS].path
    parts: list[object] = [part.strip() for part in text.split(",")]
    return Field(path, parts, metadata.skipped).each(Field.prefix)


def _as_number(metadata: Field, annotations: Labels) -> int | None:
    text = annotations.get(ANNOTATION_AS_NUMBER)
    if text is None:
        return None
    field = metadata["annotations"][ANNOTATION_AS_NUMBER]
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise field.wrong("must be an AS number, 1 to 4294967295")
    return Field(field.path, int(text)).integer(1, 2**32 - 1)


def _snat_addresses(metadata: Field) -> tuple[Address, ...]:
    """One that is wrong, or one too many, is left out and noted."""
    found: set[Address] = set()

    def read(field: Field) -> Address:
        address = _routable(field)
        found.add(address)
        if sum(each.version == address.version for each in found) > MOST_SNAT_ADDRESSES:
            raise field.wrong(f"{address} is one too many: {MOST_SNAT_ADDRESSES} of a family may be chosen")
        return address

    return listed(metadata, ANNOTATION_SNAT_ADDRESSES, read)


def namespace(document: Field, name: ObjectName) -> Namespace:
    metadata = document["metadata"]
    return Namespace(name.name, metadata["labels"].labels(), allowed_addresses(metadata))


def secret(document: Field, name: ObjectName) -> Secret:
    """`stringData` wins over `data`, as in the API server. No error quotes a value."""
    values: dict[str, bytes] = {}
    for key, field in _entries(document["data"]):
        # Go's decoder, and so the API server, passes over line ends.
        if field.present and not isinstance(field.value, str):
            raise field.wrong(f"must be a string, not {type_name(field.value)}")
        packed = field.text(default="").replace("\n", "").replace("\r", "")
        try:
            values[key] = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            raise field.wrong("is not base64 (plain text goes under stringData)") from None
    for key, field in _entries(document["stringData"]):
        if field.present and not isinstance(field.value, str):
            hint = "; quote it" if isinstance(field.value, int | float) else ""
            raise field.wrong(f"must be a string, not {type_name(field.value)}{hint}")
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
    # The API server takes the ports of nodes away from a service that is no longer of such a type.
    on_nodes = kind in ("NodePort", "LoadBalancer")
    return Service(
        name=name,
        type=sys.intern(kind),
        cluster_ips=() if external_name else _cluster_ips(spec),
        external_ips=() if external_name else spec["externalIPs"].each(_routable),
        load_balancer_ips=_ingress(document["status"]) if kind == "LoadBalancer" else (),
        wanted_ip=_wanted_ip(spec) if kind == "LoadBalancer" else None,
        ports=() if external_name else spec["ports"].each(_port_of_node if on_nodes else _service_port),
        internal_traffic_local=_local(spec["internalTrafficPolicy"]),
        external_traffic_local=_local(spec["externalTrafficPolicy"]),
        affinity_timeout=_affinity_timeout(spec),
        source_ranges=_source_ranges(metadata, spec) if kind == "LoadBalancer" else None,
        health_port=_health_port(spec) if kind == "LoadBalancer" else 0,
        created=created(metadata),
        load_balancer_class=spec["loadBalancerClass"].optional_text(),
        publish_not_ready=spec["publishNotReadyAddresses"].flag(default=False),
        labels=metadata["labels"].labels(),
        annotations=own_annotations(metadata),
    )


def service_cidr(document: Field, name: ObjectName) -> ServiceCidr:
    return ServiceCidr(name.name, document["spec"]["cidrs"].each(Field.prefix))


def _routable(field: Field) -> Address:
    """An address that services and endpoints can have: what the API server takes there
    (validation.ValidateEndpointIP), and no multicast or broadcast. To translate a host's own 127.0.0.1 would
    take away what its processes say to one another.
    """
    address = field.address()
    if _leads_nowhere(address):
        raise field.wrong(f"{address} is an address that nothing can be routed to")
    return address


def _leads_nowhere(address: Address) -> bool:
    number = int(address)
    if address.version == 4:  # in numbers: there are tens of thousands of them at a start
        first = number >> 24
        special = not number or first == 127 or 224 <= first < 240 or number >> 16 == 0xA9FE
        return special or number == 2**32 - 1
    return number < 2 or number >> 120 == 0xFF or number >> 118 == 0xFE80 >> 6


def _cluster_ips(spec: Field) -> tuple[Address, ...]:
    def read(field: Field) -> Address | None:
        return _routable(field) if field.text(default="") not in ("", "None") else None

    several = spec["clusterIPs"]
    return tuple(filter(None, several.each(read) if several.value else spec["clusterIP"].alone(read)))


def _ingress(status: Field) -> tuple[Address, ...]:
    """The addresses that nodes serve: not those of `ipMode: Proxy`, where a balancer of its own answers."""

    def read(field: Field) -> Address | None:
        served = field["ip"].text(default="") and field["ipMode"].text(default="VIP") == "VIP"
        return _routable(field["ip"]) if served else None

    return tuple(filter(None, status["loadBalancer"]["ingress"].each(read)))


def _wanted_ip(spec: Field) -> Address | None:
    """The API server takes any text here, and some clouds mean a name by it: then nothing is wanted of us."""
    try:
        return spec["loadBalancerIP"].address() if spec["loadBalancerIP"].text(default="") else None
    except ManifestError:
        return None


def _service_port(field: Field, node_port: int = 0) -> ServicePort:
    name = sys.intern(field["name"].text(default=""))
    return ServicePort(name, _protocol(field), field["port"].integer(1, 65535), node_port)


def _port_of_node(field: Field) -> ServicePort:
    return _service_port(field, field["nodePort"].integer(0, 65535, default=0))


def _protocol(field: Field) -> str:
    protocol = field["protocol"].text(default="TCP")
    if protocol not in _PROTOCOLS:
        raise field["protocol"].wrong(f"must be one of {', '.join(_PROTOCOLS)}")
    return sys.intern(protocol)


def _local(field: Field) -> bool:
    if field.text(default="Cluster") not in ("Cluster", "Local", ""):
        raise field.wrong("must be Cluster or Local")
    return field.value == "Local"


def _health_port(spec: Field) -> int:
    if not _local(spec["externalTrafficPolicy"]):
        return 0
    found = spec["healthCheckNodePort"].alone(lambda field: field.integer(0, 65535, 0))
    return next(iter(found), 0)


def _affinity_timeout(spec: Field) -> int:
    """Seconds for which a client comes back to its endpoint; 0: sessionAffinity is None."""
    field = spec["sessionAffinity"]
    if field.text(default="None") not in ("None", "ClientIP", ""):
        raise field.wrong("must be None or ClientIP")
    if field.value != "ClientIP":
        return 0
    return spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].integer(1, 86400, DEFAULT_AFFINITY)


def _source_ranges(metadata: Field, spec: Field) -> tuple[Prefix, ...] | None:
    """Who may speak to the load-balancer addresses; None: everybody. The field wins over the annotation.

    What is no prefix is an error of the object as a whole: left out, it would only be a narrower range, but
    what was meant is not known, and the last good version is safer than a guess.
    """
    ranges = list(spec["loadBalancerSourceRanges"].items())
    if not ranges:
        annotations = metadata["annotations"]
        text = annotations[ANNOTATION_SOURCE_RANGES].text(default="").strip()
        path = annotations[ANNOTATION_SOURCE_RANGES].path
        ranges = [Field(path, part) for part in text.split(",")] if text else []
    if not ranges:
        return None
    # Blanks around a range and bits beyond its length are allowed in the API.
    return tuple(Field(each.path, each.text().strip()).prefix(masked=True) for each in ranges)


def endpoint_slice(document: Field, name: ObjectName) -> EndpointSlice | None:
    """None for a slice without the service label, or one that this proxy is not to serve: kube-proxy reads no
    slice with either label, whatever its service has. One of names (FQDN) has no endpoints."""
    labels = document["metadata"]["labels"].labels()
    owner = labels.get(LABEL_SERVICE_NAME)
    if not owner or LABEL_HEADLESS in labels or LABEL_PROXY in labels:
        return None
    kind = document["addressType"].text()
    if kind not in ("IPv4", "IPv6", "FQDN"):
        raise document["addressType"].wrong("must be IPv4, IPv6 or FQDN")
    return EndpointSlice(
        name=name,
        service=ObjectName(name.namespace, owner),
        endpoints=()
        if kind == "FQDN"
        else document["endpoints"].each(_endpoint_4 if kind == "IPv4" else _endpoint_6),
        ports=dict(filter(None, document["ports"].each(_endpoint_port))),
    )


def _endpoint_port(field: Field) -> tuple[str, tuple[str, int]] | None:
    if not field["port"].present:  # null: every port, which no balancer can use (as in kube-proxy)
        return None
    return sys.intern(field["name"].text(default="")), (_protocol(field), field["port"].integer(1, 65535))


def _endpoint_4(field: Field) -> Endpoint:
    return _endpoint(field, 4)


def _endpoint_6(field: Field) -> Endpoint:
    return _endpoint(field, 6)


def _endpoint(field: Field, version: int) -> Endpoint:
    return usual_endpoint(field.value, version) or endpoint(field, version)


def usual_endpoint(value: object, version: int) -> Endpoint | None:
    """What `endpoint` makes of one as controllers write it, in a fifth of the time; None for any other. Of
    10,000 services there are tens of thousands."""
    if type(value) is not dict or value.get("hints") is not None:
        return None
    addresses, conditions, where = value.get("addresses"), value.get("conditions"), value.get("nodeName")
    if type(addresses) is not list or not addresses or type(conditions) is not dict:
        return None
    ready, serves, ends = conditions.get("ready"), conditions.get("serving"), conditions.get("terminating")
    if not (isinstance(ready, bool) and isinstance(serves, bool) and isinstance(ends, bool)):
        return None
    if not isinstance(where, str) or not where or not isinstance(addresses[0], str):
        return None
    try:
        address = parse_address(addresses[0])
    except ValueError:
        return None
    if address.version != version or _leads_nowhere(address):
        return None
    return Endpoint(address, ready, serves, ends, sys.intern(where))


def endpoint(field: Field, version: int) -> Endpoint:
    """The first address only: the API calls all of them one endpoint, and kube-proxy reads the first."""
    first = next(field["addresses"].items(), None)
    if first is None:
        raise field["addresses"].wrong("is required")
    address = _routable(first)
    if address.version != version:
        raise first.wrong(f"{address} is not an IPv{version} address, as addressType says")
    conditions = field["conditions"]
    ready = conditions["ready"].flag(default=True)
    where = field["nodeName"].optional_text()
    hints = field["hints"]
    return Endpoint(
        address=address,
        ready=ready,
        serving=conditions["serving"].flag(default=ready),
        terminating=conditions["terminating"].flag(default=False),
        node=sys.intern(where) if where else None,
        hints=_hints(hints) if hints.value else None,
    )


def _hints(field: Field) -> Hints | None:
    """Whatever trafficDistribution asks for, the EndpointSlice controller writes it here."""

    def named(each: Field) -> str:
        return sys.intern(each["name"].text())

    nodes, zones = field["forNodes"].each(named), field["forZones"].each(named)
    return Hints(nodes, zones) if nodes or zones else None
