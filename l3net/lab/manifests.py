"""A topology -> the manifests its nodes read: Kubernetes' own kinds and l3net's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import TypeAlias

import yaml
from netaddr import cidr_merge

from l3net.lab.frr import HOLD_TIME
from l3net.lab.topology import BgpSession, ServiceSpec, Topology
from l3net.model import Address, Prefix
from l3net.naming import ANNOTATION_LOAD_BALANCING, API_VERSION, CONSISTENT

Document: TypeAlias = dict[str, object]

POD_PORT = 8080


def cluster_manifests(topology: Topology) -> dict[str, list[Document]]:
    """File name -> documents of the directory every node reads, before any pod exists."""
    return {
        "nodes.yaml": [_node(topology, node.name) for node in topology.nodes],
        "bgp.yaml": [_configuration(topology), *_node_peers(topology)],
        "pools.yaml": pools(topology),
        "services.yaml": service_documents(topology),
    }


def router_manifests(topology: Topology, host: str) -> dict[str, list[Document]]:
    """The directory of a router of kind l3net: it learns, re-announces, and homes no pods."""
    networks = [str(subnet) for subnet in topology.link_subnets(host)]
    configuration = _own(
        "BGPConfiguration",
        "default",
        {
            "asNumber": topology.as_number_of(host),
            "nodeToNodeMesh": False,
            "holdTime": HOLD_TIME,
            "transit": True,
            "import": {"nodeSubnets": True, "ebgpRequiresPolicy": False},
            "advertise": {"podBlocks": False, "clusterIPs": {"enabled": False}, "networks": networks},
        },
    )
    peers = [_peer(topology, host, session) for session in topology.sessions(host)]
    return {"nodes.yaml": [_node(topology, host)], "bgp.yaml": [configuration, *peers]}


def service_documents(topology: Topology, *, consistent: bool = False) -> list[Document]:
    """The Services; `consistent`: every node answers a client alike."""
    said = {ANNOTATION_LOAD_BALANCING: CONSISTENT} if consistent else {}
    return [_service(service, said) for service in topology.services]


def pools(topology: Topology, nat_outgoing: bool | None = None) -> list[Document]:
    """The IPPools; `nat_outgoing` overrides what the topology says."""
    return [
        _own(
            "IPPool",
            pool.name,
            {
                "cidr": str(pool.cidr),
                "blockSize": pool.block_size,
                "natOutgoing": pool.nat_outgoing if nat_outgoing is None else nat_outgoing,
            },
        )
        for pool in topology.pools
    ]


def endpoint_slices(topology: Topology, addresses: Mapping[str, Iterable[Address]]) -> list[Document]:
    """The EndpointSlices of every service, from its pods' addresses; a pod without one is left out."""
    slices: list[Document] = []
    nodes = topology.pods
    for service in topology.services:
        for version in topology.versions:
            endpoints = [
                {
                    "addresses": [str(address)],
                    "conditions": {"ready": True},
                    "nodeName": nodes[pod].name,
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": pod},
                }
                for pod in service.pods
                for address in addresses.get(pod, ())
                if address.version == version
            ]
            slices.append(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "namespace": "default",
                        "name": f"{service.name}-ipv{version}",
                        "labels": {"kubernetes.io/service-name": service.name},
                    },
                    "addressType": f"IPv{version}",
                    "endpoints": endpoints,
                    "ports": [{"name": "http", "protocol": "TCP", "port": POD_PORT}],
                }
            )
    return slices


def render(documents: Iterable[Document]) -> str:
    """YAML text, one document after the other."""
    return yaml.safe_dump_all(list(documents), sort_keys=False, default_flow_style=False, width=110)


def _own(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _node(topology: Topology, host: str) -> Document:
    node = topology.node(host)
    spec: Document = {"podCIDRs": [str(block) for block in node.blocks]} if node is not None else {}
    addresses = [str(topology.address(host, version)) for version in topology.versions]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host, "labels": {"kubernetes.io/hostname": host}},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": address} for address in addresses],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _configuration(topology: Topology) -> Document:
    return _own(
        "BGPConfiguration",
        "default",
        {
            "asNumber": topology.as_number,
            "nodeToNodeMesh": topology.mesh,
            "holdTime": HOLD_TIME,
            "serviceCIDRs": [str(cidr) for cidr in topology.service_cidrs],
            "import": {"cidrs": [str(subnet) for subnet in _link_subnets(topology)]},
        },
    )


def _link_subnets(topology: Topology) -> list[Prefix]:
    """What routers announce beside pods and services: where their links and the clients are."""
    subnets = [subnet for link in topology.links for subnet in link.subnets]
    return [ip_network(str(merged)) for merged in cidr_merge([str(subnet) for subnet in subnets])]


def _node_peers(topology: Topology) -> list[Document]:
    return [
        _peer(topology, node.name, session)
        for node in topology.nodes
        for session in topology.sessions(node.name)
    ]


def _peer(topology: Topology, host: str, session: BgpSession) -> Document:
    """A host's side of a session. ExaBGP at both ends must not dial at both: a router waits for nodes, and of
    two routers the one with the lower address waits."""
    spec: Document = {
        "address": str(session.remote),
        "localAddress": str(session.local),
        "asNumber": session.remote_as,
        "nodes": [host],
    }
    if topology.router(host) is not None and (
        topology.node(session.remote_host) is not None or int(session.local) < int(session.remote)
    ):
        spec["passive"] = True
    return _own("BGPPeer", _peer_name(host, session.interface, session.remote), spec)


def _peer_name(host: str, interface: str, remote: Address) -> str:
    return f"{host}-{interface}-ipv{remote.version}"


def _service(service: ServiceSpec, annotations: Mapping[str, str]) -> Document:
    families = [f"IPv{address.version}" for address in service.cluster_ips]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": "default",
            "name": service.name,
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": str(service.cluster_ips[0]) if service.cluster_ips else "None",
            "clusterIPs": [str(address) for address in service.cluster_ips],
            "ipFamilies": families,
            "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
            "internalTrafficPolicy": "Local" if service.internal_local else "Cluster",
            "ports": [{"name": "http", "protocol": "TCP", "port": service.port, "targetPort": POD_PORT}],
        },
    }
