"""The cluster that policies are measured in, as manifests: namespaces, pods as an API has them, policies.

A namespace has twenty applications; a policy is for one of them, lets the next one in and itself out to the
one before and to DNS. A third look into other namespaces by labels, a fifth at a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

Document = dict[str, Any]

NAMESPACES, APPLICATIONS, NODES = 500, 20, 450
#: The node that is measured, and how many pods it has.
ME, LOCAL = "n1", 110
BLOCKS = ("10.250.1.0/24", "fd00:250:1::/120")


def namespace(number: int) -> Document:
    labels = {"kubernetes.io/metadata.name": f"ns{number}", "team": f"team{number % 20}"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns{number}", "labels": labels}}


def name_of(number: int) -> tuple[str, str]:
    """Namespace and name of a pod."""
    return f"ns{number % NAMESPACES}", f"app{number // NAMESPACES % APPLICATIONS}-6d4cf56db6-{number:05x}"


def local(pods: int) -> list[int]:
    """The pods of this node; the first two are of one namespace, and the second may call the first."""
    step = max(1, pods // LOCAL)
    found = [0, NAMESPACES, *(number for number in range(1, pods, step) if number != NAMESPACES)]
    return [number for number in found if number < pods][:LOCAL]


def addresses(number: int) -> tuple[str, str]:
    return str(ip_address("10.0.1.0") + number), str(ip_address("fd00::1:0") + number)


def pod(number: int, *, mine: bool = False) -> Document:
    """About 5 KiB, which is what a Deployment's pod with two containers has. One of this node has no address
    yet: the plugin gives it."""
    where, name = name_of(number)
    application = number // NAMESPACES % APPLICATIONS
    labels = {
        "app": f"app{application}",
        "tier": f"tier{number % 3}",
        "shard": f"s{number % 5}",
        "pod-template-hash": f"6d4cf56d{application:02x}",
    }
    v4, v6 = addresses(number)
    status: Document = {"phase": "Pending"} if mine else _status(v4, v6)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": where,
            "name": name,
            "generateName": f"app{application}-6d4cf56db6-",
            "labels": labels,
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9090",
                "checksum": "f" * 64,
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"app{application}-6d4cf56db6",
                    "uid": "0c3f5e1e-9f3e-4b8a-8a53-5f0b3c1f0a11",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                {
                    "manager": manager,
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        f"f:{outer}": {f"f:field{inner}": {".": {}, "f:value": {}} for inner in range(9)}
                        for outer in ("metadata", "spec", "status")
                    },
                }
                for manager in ("kube-controller-manager", "kubelet")
            ],
        },
        "spec": {
            "nodeName": ME if mine else f"n{2 + number % (NODES - 1)}",
            "serviceAccountName": "default",
            "restartPolicy": "Always",
            "containers": [_container(each) for each in ("main", "sidecar")],
            "volumes": [
                {
                    "name": f"kube-api-access-{number:05x}",
                    "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]},
                }
            ],
            "tolerations": [
                {"key": f"node.kubernetes.io/{each}", "operator": "Exists", "effect": "NoExecute"}
                for each in ("not-ready", "unreachable")
            ],
        },
        "status": status,
    }


def _container(name: str) -> Document:
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}] if name == "main" else []
    return {
        "name": name,
        "image": f"registry.example.com/team/{name}:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "ports": ports,
        "env": [{"name": f"SETTING_{each}", "value": "x" * 20} for each in range(6)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 10},
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": True}],
    }


def _status(v4: str, v6: str) -> Document:
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled", "PodReadyToStartContainers")
    return {
        "phase": "Running",
        "hostIP": "192.0.2.9",
        "podIP": v4,
        "podIPs": [{"ip": v4}, {"ip": v6}],
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": [
            {"type": each, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"} for each in kinds
        ],
        "containerStatuses": [
            {
                "name": each,
                "ready": True,
                "restartCount": 0,
                "imageID": f"registry.example.com/team/{each}@sha256:{'0' * 64}",
                "containerID": f"containerd://{'1' * 64}",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
            for each in ("main", "sidecar")
        ],
    }


def policy(number: int, policies: int) -> Document:
    """Ten or more a namespace, so that few are all of one."""
    each = max(10, -(-policies // NAMESPACES))
    where, application = number // each, number % each % APPLICATIONS
    ports: list[Document] = [{"protocol": "TCP", "port": 80}, {"protocol": "TCP", "port": "http"}]
    ports.append({"protocol": "TCP", "port": 5201})
    selects = {"podSelector": {"matchLabels": {"app": f"app{(application + 1) % APPLICATIONS}"}}}
    peers: list[Document] = [selects]
    if number % 3 == 0:
        peers.append(
            {
                "namespaceSelector": {"matchLabels": {"team": f"team{number % 20}"}},
                "podSelector": {"matchLabels": {"tier": "tier1"}},
            }
        )
    if number % 5 == 0:
        peers.append({"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.7.0/24"]}})
    before = {"podSelector": {"matchLabels": {"app": f"app{(application - 1) % APPLICATIONS}"}}}
    dns = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": f"ns{where}", "name": f"policy{number}"},
        "spec": {
            "podSelector": {"matchLabels": {"app": f"app{application}"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": ports}],
            "egress": [{"to": [before]}, dns],
        },
    }


def wide_policy(shard: str) -> Document:
    """Refuses pods of one shard, a fifth of all there are, to those of one team."""
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "wide"},
        "spec": {
            "tier": "Admin",
            "priority": 10,
            "subject": {"namespaces": {"matchLabels": {"team": "team1"}}},
            "ingress": [
                {
                    "action": "Deny",
                    "from": [
                        {
                            "pods": {
                                "namespaceSelector": {},
                                "podSelector": {"matchLabels": {"shard": shard}},
                            }
                        }
                    ],
                }
            ],
        },
    }


def node(name: str = ME) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(BLOCKS)},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]},
    }


def cluster(pods: int, policies: int) -> Iterator[Document]:
    """All but the node itself."""
    mine = set(local(pods))
    yield from map(namespace, range(NAMESPACES))
    yield from (pod(number, mine=number in mine) for number in range(pods))
    yield from (policy(number, policies) for number in range(policies))


def size() -> int:
    """Bytes of a pod as JSON."""
    return len(json.dumps(pod(12345), separators=(",", ":")))
