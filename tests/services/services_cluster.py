"""A cluster for random services: two nodes, what may be an endpoint, packets to every port of a service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firewall_net import CLIENT, NODE, POD, PODS, REMOTE, UPLINK
from random_services import Maker, Spot
from service_reference import Document, Origin, Packet

from l3net.kube.registry import KINDS
from l3net.kube.translate import translate
from l3net.model import ClusterState

ME, ELSEWHERE = "node", "other"
BOTH = (4, 6)
#: Who may be an endpoint: pods of the node, the node itself, another node's pod.
SPOTS = {
    **{pod: Spot(POD[pod], ME) for pod in PODS},
    "node": Spot(NODE, ME),
    "other": Spot(REMOTE, ELSEWHERE),
}
SOURCES = {
    Origin.OUTSIDE: ("client", CLIENT),
    Origin.POD: ("pod1", POD["pod1"]),
    Origin.NODE: ("node", UPLINK),
}
RANGES = (
    "192.0.2.0/24", "10.1.1.0/24", "192.0.3.1/32", "203.0.113.0/24",
    "2001:db8:c::/64", "fd00:1:1::/120", "2001:db8:d::/64", "2001:db8:f::/64",
)  # fmt: skip


def cluster() -> list[Document]:
    """What is declared beside the services: two nodes, and that every external address is allowed."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": ME, "labels": {"topology.kubernetes.io/zone": "east"}},
        "spec": {"podCIDRs": ["10.1.1.0/24", "fd00:1:1::/120"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": UPLINK[version]} for version in BOTH],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    other = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": ELSEWHERE, "labels": {"topology.kubernetes.io/zone": "west"}},
        "spec": {"podCIDRs": ["10.1.2.0/24", "fd00:1:2::/120"]},
        "status": {"addresses": [], "conditions": [{"type": "Ready", "status": "True"}]},
    }
    allowed = {"enabled": True, "cidrs": ["198.18.0.0/15", "fd00:18::/64", "fd00:19::/64"]}
    configuration = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPConfiguration",
        "metadata": {"name": "default"},
        "spec": {"advertise": {"externalIPs": allowed, "loadBalancerIPs": allowed}},
    }
    return [node, other, configuration]


def declared(documents: Sequence[Document]) -> ClusterState:
    state = ClusterState()
    for document in documents:
        found = translate(document)
        if found is not None:
            kind, name, fact = found
            KINDS[kind].put(state, name, fact)
    return state


def packets(services: Sequence[Document]) -> Iterator[Packet]:
    """To every address and port of every service, from everywhere, and to a port beside."""
    for service in services:
        if service["kind"] != "Service":
            continue
        spec = service["spec"]
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        addresses = [each for each in spec["clusterIPs"] if each != "None"]
        addresses += [*spec.get("externalIPs", ()), *(each["ip"] for each in ingress)]
        for port in spec["ports"]:
            targets = [(address, port["port"]) for address in addresses]
            if "nodePort" in port:
                targets += [(UPLINK[version], port["nodePort"]) for version in BOTH]
            for address, number in targets:
                for origin, (_, sources) in SOURCES.items():
                    source = sources[6 if ":" in address else 4]
                    yield Packet(origin, source, address, port["protocol"], number)


def made(batch: int, count: int) -> list[Document]:
    maker = Maker(f"services {batch}", tuple(SPOTS.values()), (ME, ELSEWHERE), RANGES)
    return [document for _ in range(count) for document in maker.service()]
