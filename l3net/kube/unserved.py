"""What a document asks for and l3net does not do, of Kubernetes' own kinds: none of it is passed over in
silence.

Fields of l3net's own resources are all honoured; unknown ones are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from l3net.errors import ManifestError
from l3net.kube.core import ANNOTATION_SOURCE_RANGES
from l3net.kube.fields import Field, shown
from l3net.naming import ANNOTATION_LOAD_BALANCING, CONSISTENT, RANDOM

#: API group and kind: policies that restrict, and that nothing here enforces. ClusterNetworkPolicy took their
#: place.
_POLICIES = {
    ("policy.networking.k8s.io", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"),
}
#: Of policies all fields are read: another one is written wrong, or of a later API.
_KNOWN_FIELDS = {
    ("networking.k8s.io", "NetworkPolicy"): ("podSelector", "policyTypes", "ingress", "egress"),
    ("policy.networking.k8s.io", "ClusterNetworkPolicy"): (
        "tier", "priority", "subject", "ingress", "egress",
    ),
}  # fmt: skip
#: spec.trafficDistribution of a Service (core/v1). The EndpointSlice controller makes hints of them.
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
#: Of the annotation of a Service.
_BALANCINGS = (CONSISTENT, RANDOM)


def unserved(document: Mapping[str, object]) -> tuple[ManifestError, ...]:
    """Field and what becomes of it, for each. A document that is wrong in shape says nothing here."""
    try:
        return tuple(_unserved(Field("", document)))
    except ManifestError:
        return ()


def _unserved(document: Field) -> Iterator[ManifestError]:
    group = document["apiVersion"].text(default="").rpartition("/")[0]
    kind = document["kind"].text(default="")
    if (group, kind) in _POLICIES:
        yield document["kind"].wrong(
            f"{kind} is not enforced: what it forbids passes; write a ClusterNetworkPolicy"
        )
    elif (group, kind) in _KNOWN_FIELDS:
        yield from _unknown(document["spec"], _KNOWN_FIELDS[group, kind])
    elif (group, kind) == ("", "Service"):
        yield from _service(document["spec"])
        yield from _open_in_spite_of_ranges(document["metadata"], document["spec"])
        said = document["metadata"]["annotations"][ANNOTATION_LOAD_BALANCING]
        if said.text(default="") not in ("", *_BALANCINGS):
            yield said.wrong(
                f"is not known, and the BGPConfiguration's is used; there are {', '.join(_BALANCINGS)}"
            )


def _unknown(spec: Field, known: Collection[str]) -> Iterator[ManifestError]:
    for key in spec.value if isinstance(spec.value, Mapping) else ():
        if key not in known:
            yield spec[key].wrong(f"is not looked at; there are {', '.join(known)}")


def _service(spec: Field) -> Iterator[ManifestError]:
    if spec["healthCheckNodePort"].value and (
        spec["type"].value != "LoadBalancer" or spec["externalTrafficPolicy"].value != "Local"
    ):
        yield spec["healthCheckNodePort"].wrong(
            "is answered for type LoadBalancer with externalTrafficPolicy Local alone"
        )
    yield from _ports(spec)
    if spec["trafficDistribution"].value not in (None, *_DISTRIBUTIONS):
        known = ", ".join(_DISTRIBUTIONS)
        yield spec["trafficDistribution"].wrong(
            f"is not known, and any ready endpoint is used; there are {known}"
        )


def _ports(spec: Field) -> Iterator[ManifestError]:
    """What an API server refuses, and a directory of manifests may hold."""
    on_nodes = spec["type"].value in ("NodePort", "LoadBalancer")
    seen: set[tuple[str, int, str]] = set()
    for port in spec["ports"].items():
        if port["nodePort"].value and not on_nodes:
            yield port["nodePort"].wrong("is served for type NodePort and LoadBalancer alone")
        protocol = port["protocol"].text(default="TCP")
        for key in ("port", "nodePort") if on_nodes else ("port",):
            number = port[key].value
            if not isinstance(number, int) or not number:
                continue
            if (key, number, protocol) in seen:
                yield port[key].wrong(
                    f"{shown(number)}/{protocol} is there twice, and the first of them is served"
                )
            seen.add((key, number, protocol))


def _open_in_spite_of_ranges(metadata: Field, spec: Field) -> Iterator[ManifestError]:
    """Addresses that source ranges do not restrict: as in kube-proxy, those of load balancers alone are."""
    annotation = metadata["annotations"][ANNOTATION_SOURCE_RANGES]
    ranges = spec["loadBalancerSourceRanges"]
    if not ranges.value and not annotation.text(default="").strip():
        return
    if spec["type"].value != "LoadBalancer":
        where = ranges if ranges.value else annotation
        yield where.wrong("restricts only load-balancer addresses, and this service has none: it is open")
    elif spec["externalIPs"].value:
        yield spec["externalIPs"].wrong("are open to everybody: source ranges restrict no external IPs")
