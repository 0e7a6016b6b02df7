"""A topology as a kubeadm cluster: kubeadm's configuration for each node, and what is applied afterwards.

kubeadm's own services (the API server's, the cluster's DNS) get a service range of their own, which stays
inside; the topology's ranges are added as a ServiceCIDR (networking.k8s.io/v1, Kubernetes 1.33), so that the
service addresses of both labs are the same. Every node gets its blocks from IPPools that only it may use.
"""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_network
from typing import Final

from l3net.lab.errors import LabError
from l3net.lab.manifests import POD_PORT, Document, cluster_manifests, render
from l3net.lab.topology import Topology
from l3net.model import Prefix
from l3net.naming import API_VERSION

#: What stands for the bootstrap token, which is made when the machines are.
TOKEN: Final = "@TOKEN@"  # noqa: S105 - a placeholder
#: What a pod of the lab runs; its server comes from a ConfigMap.
POD_IMAGE: Final = "docker.io/library/python:3.11-slim-bookworm"
_KUBERNETES_SERVICES: Final = ("10.97.0.0/16", "fd00:10:97::/112")
_KUBEADM: Final = "kubeadm.k8s.io/v1beta4"
_API_PORT: Final = 6443


def kubernetes_services(topology: Topology) -> tuple[Prefix, ...]:
    """The range of kubeadm's own services, in the topology's families. Raises LabError if it is taken."""
    ranges = tuple(net for net in map(ip_network, _KUBERNETES_SERVICES) if net.version in topology.versions)
    taken = [subnet for link in topology.links for subnet in link.subnets]
    for prefix in (*taken, *(pool.cidr for pool in topology.pools), *topology.service_cidrs):
        for net in ranges:
            if prefix.version == net.version and prefix.overlaps(net):
                raise LabError(f"{prefix} overlaps {net}, the range of kubeadm's own services")
    return ranges


def kubernetes_settings(topology: Topology, host: str) -> str:
    """`kubeadm init --config` of the first node, `kubeadm join --config` of the others."""
    addresses = ",".join(str(topology.address(host, version)) for version in topology.versions)
    registration: Document = {
        "name": host,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "kubeletExtraArgs": [{"name": "node-ip", "value": addresses}],
    }
    first = topology.nodes[0].name
    server = topology.address(first, topology.versions[0])
    if host != first:
        endpoint = f"[{server}]:{_API_PORT}" if server.version == 6 else f"{server}:{_API_PORT}"
        # The token alone vouches for the API server: the fabric between them is the lab's own.
        found = {"token": TOKEN, "apiServerEndpoint": endpoint, "unsafeSkipCAVerification": True}
        join: Document = {
            "apiVersion": _KUBEADM,
            "kind": "JoinConfiguration",
            "discovery": {"bootstrapToken": found},
            "nodeRegistration": registration,
        }
        return render([join])
    init: Document = {
        "apiVersion": _KUBEADM,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{"token": TOKEN, "ttl": "0s"}],
        "localAPIEndpoint": {"advertiseAddress": str(server), "bindPort": _API_PORT},
        # Pods of the lab run on every node.
        "nodeRegistration": {**registration, "taints": []},
        "skipPhases": ["addon/kube-proxy"],
    }
    cluster: Document = {
        "apiVersion": _KUBEADM,
        "kind": "ClusterConfiguration",
        "networking": {"serviceSubnet": ",".join(map(str, kubernetes_services(topology)))},
    }
    return render([init, cluster])


def kubernetes_manifests(topology: Topology) -> dict[str, str]:
    """File name -> text of what is applied to the cluster; `workloads.yaml` comes last."""
    if not topology.nodes:
        return {}
    files = {
        "bgp.yaml": _bgp(topology),
        "pools.yaml": node_pools(topology),
        "workloads.yaml": [*_service_range(topology), *_services(topology), *_pods(topology)],
    }
    return {name: render(documents) for name, documents in files.items()}


def node_pools(topology: Topology, nat_outgoing: bool | None = None) -> list[Document]:
    """IPPools of one block each, which only its node may use: blocks as the topology has them."""
    found: list[Document] = []
    for node in topology.nodes:
        for block in node.blocks:
            nat = any(p.nat_outgoing for p in topology.pools if p.cidr.version == block.version)
            spec: Document = {
                "cidr": str(block),
                "blockSize": block.prefixlen,
                "natOutgoing": nat if nat_outgoing is None else nat_outgoing,
                "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": node.name}},
            }
            metadata = {"name": f"{node.name}-ipv{block.version}"}
            found.append({"apiVersion": API_VERSION, "kind": "IPPool", "metadata": metadata, "spec": spec})
    return found


def _bgp(topology: Topology) -> list[Document]:
    """As on plain hosts, but only the topology's service ranges are announced."""
    documents = cluster_manifests(topology)["bgp.yaml"]
    configuration, *peers = documents
    spec = configuration["spec"]
    assert isinstance(spec, dict)  # noqa: S101
    ranges = [str(cidr) for cidr in topology.service_cidrs]
    more = {
        "serviceCIDRs": [*ranges, *map(str, kubernetes_services(topology))],
        "advertise": {"clusterIPs": {"enabled": True, "cidrs": ranges}},
    }
    return [{**configuration, "spec": {**spec, **more}}, *peers]


def _service_range(topology: Topology) -> list[Document]:
    if not topology.service_cidrs:
        return []
    by_family: dict[int, list[Prefix]] = defaultdict(list)
    for cidr in topology.service_cidrs:
        by_family[cidr.version].append(cidr)
    # A ServiceCIDR has one range a family at the most.
    pairs = (
        zip(*by_family.values(), strict=False)
        if len(by_family) > 1
        else ((c,) for c in next(iter(by_family.values())))
    )
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": f"lab-{number}"},
            "spec": {"cidrs": [str(cidr) for cidr in pair]},
        }
        for number, pair in enumerate(pairs, start=1)
    ]


def _services(topology: Topology) -> list[Document]:
    documents = cluster_manifests(topology)["services.yaml"]
    found: list[Document] = []
    for document, service in zip(documents, topology.services, strict=True):
        spec = document["spec"]
        assert isinstance(spec, dict)  # noqa: S101
        found.append({**document, "spec": {**spec, "selector": {_label(service.name): "yes"}}})
    return found


def _pods(topology: Topology) -> list[Document]:
    return [_pod(topology, pod) for pod in topology.pods]


def _label(service: str) -> str:
    return f"lab.l3net.io/{service}"


def _pod(topology: Topology, name: str) -> Document:
    node = topology.pods[name].name
    labels = {_label(service.name): "yes" for service in topology.services if name in service.pods}
    container = {
        "name": "server",
        "image": POD_IMAGE,
        "command": ["python3", "-ISE", "/lab/pod_server.py", node, name, str(POD_PORT)],
        "ports": [{"containerPort": POD_PORT}],
        "volumeMounts": [{"name": "lab", "mountPath": "/lab"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            # Not evicted when its node is cut off for a while.
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "lab", "configMap": {"name": "lab-pod-server"}}],
        },
    }
