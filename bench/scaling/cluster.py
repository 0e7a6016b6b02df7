"""The objects of a cluster of so many nodes, as large as real ones: 10 services and 30 pods a node.

Real objects carry managedFields, of which an agent reads nothing and gets every octet; here a filler stands
for them. Sizes (JSON as the API answers it): Node 9.1 KB (40 images), Service 1.7 KB, EndpointSlice of three
endpoints 2.2 KB, of which there are two a Service.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

Object = dict[str, Any]

SERVICES_A_NODE: Final = 10
PODS_A_SERVICE: Final = 3
OURS: Final = "l3net.io/v1alpha1"
#: Octets of managedFields in a real object of each kind.
MANAGED: Final = {"Node": 2400, "Service": 650, "EndpointSlice": 800}


def _document(version: str, kind: str, name: str, namespace: str = "", **body: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **body.pop("metadata", {})}
    if kind in MANAGED:
        metadata["managedFields"] = [{"manager": "x", "fieldsV1": "x" * MANAGED[kind]}]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def node(number: int) -> Object:
    name = f"node-{number:05}"
    images = [
        {"names": [f"registry.example/team/image-{each}@sha256:{each:064x}"], "sizeBytes": 100_000_000 + each}
        for each in range(40)
    ]
    return _document(
        "v1",
        "Node",
        name,
        metadata={
            "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"z{number % 3}"}
        },
        spec={
            "podCIDR": f"10.{128 + number // 256}.{number % 256}.0/24",
            "podCIDRs": [f"10.{128 + number // 256}.{number % 256}.0/24", f"fd00:10:{number:x}::/120"],
        },
        status={
            "addresses": [
                {"type": "InternalIP", "address": str(ip_address("10.8.0.0") + number + 1)},
                {"type": "InternalIP", "address": f"fd00:8::{number + 1:x}"},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [
                {"type": kind, "status": status, "message": "kubelet says so " * 3, "reason": "KubeletSays"}
                for kind, status in (
                    ("MemoryPressure", "False"),
                    ("DiskPressure", "False"),
                    ("PIDPressure", "False"),
                    ("Ready", "True"),
                    ("NetworkUnavailable", "False"),
                )
            ],
            "images": images,
        },
    )


def service(number: int) -> Object:
    name = f"service-{number}"
    addresses = [str(ip_address("10.96.0.0") + number + 1), f"fd00:96::{number + 1:x}"]
    return _document(
        "v1",
        "Service",
        name,
        f"team-{number % 50}",
        metadata={
            "labels": {"app": name, "team": f"team-{number % 50}"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 400},
        },
        spec={
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"],
            "selector": {"app": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    )


def endpoint_slice(number: int, family: str, nodes: int, ready: int = PODS_A_SERVICE) -> Object:
    """The first `ready` of its endpoints are."""
    name = f"service-{number}"
    first = ip_address("10.200.0.0" if family == "IPv4" else "fd00:200::") + number * PODS_A_SERVICE
    endpoints = [
        {
            "addresses": [str(first + each)],
            "conditions": {"ready": each < ready, "serving": each < ready, "terminating": False},
            "nodeName": f"node-{(number * PODS_A_SERVICE + each) % max(1, nodes):05}",
            "targetRef": {
                "kind": "Pod",
                "name": f"{name}-{each}",
                "namespace": f"team-{number % 50}",
                "uid": f"{number:08x}-0000-0000-0000-{each:012x}",
            },
            "zone": f"z{each}",
        }
        for each in range(PODS_A_SERVICE)
    ]
    return _document(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{name}-{family.lower()}",
        f"team-{number % 50}",
        metadata={
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "generateName": f"{name}-",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "controller": True}],
        },
        addressType=family,
        endpoints=endpoints,
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
    )


def configuration(mesh: bool) -> Object:
    """`mesh`: nodes learn of one another, by reflectors; else each speaks to its router alone."""
    spec: Object = {"nodeToNodeMesh": mesh}
    if mesh:
        spec["topology"] = "RouteReflectors"
    return _document(OURS, "BGPConfiguration", "default", spec=spec)


def router() -> Object:
    return _document(OURS, "BGPPeer", "tor", spec={"address": "10.8.255.254", "asNumber": 65001})


def objects(nodes: int, mesh: bool) -> Iterator[Object]:
    """All that a cluster of so many declares; of pods only what a test puts there itself."""
    yield configuration(mesh)
    yield router()
    for number in range(50):
        yield _document("v1", "Namespace", f"team-{number}")
    yield from map(node, range(nodes))
    for number in range(nodes * SERVICES_A_NODE):
        yield service(number)
        for family in ("IPv4", "IPv6"):
            yield endpoint_slice(number, family, nodes)
