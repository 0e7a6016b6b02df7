"""The lean decoders keep every field that the translation looks at, and nothing that it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from l3net.kube.translate import translate
from l3net.model import Kind
from l3net.shell.kubernetes.kinds import KINDS, status_of, version_of, watch_event

META = {
    "name": "x",
    "labels": {"kubernetes.io/service-name": "web", "a": "b"},
    "annotations": {
        "l3net.io/advertise": "false",
        "l3net.io/as-number": "65001",
        "l3net.io/blocks": "10.9.0.0/24",
        "l3net.io/allowed-addresses": "192.0.2.9",
        "l3net.io/floating-ips": "203.0.113.9",
        "l3net.io/snat-addresses": "192.0.2.8",
        "l3net.io/log-drops": "true",
        "kubernetes.io/config.hash": "77aa",
    },
    "uid": "5a0e",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "deletionTimestamp": "2026-01-02T03:04:06Z",
    "managedFields": [{"manager": "kubectl"}],
}
SPACED = {**META, "namespace": "default"}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": META,
    "spec": {
        "podCIDR": "10.1.0.0/24",
        "podCIDRs": ["10.1.0.0/24", "fd00::/120"],
        "unschedulable": True,
        "taints": [
            {"key": "a.example/b", "value": "c", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
        ],
        "providerID": "kind://x",
    },
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "x"}],
        "conditions": [{"type": "Ready", "status": "False", "message": "long"}],
        "images": [{"names": ["x"], "sizeBytes": 1}],
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": SPACED,
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "externalIPs": ["192.0.2.1"],
        "ports": [{"name": "http", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": 30053}],
        "internalTrafficPolicy": "Local",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31000,
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "loadBalancerClass": "l3net.io/bgp",
        "loadBalancerIP": "192.0.2.2",
        "publishNotReadyAddresses": True,
        "selector": {"app": "x"},
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "ipMode": "VIP", "ports": []}]}},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": SPACED,
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.1.0.5"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "nodeName": "n1",
            "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n1"}]},
            "targetRef": {"kind": "Pod", "name": "p"},
            "zone": "z",
        }
    ],
    "ports": [{"name": "http", "protocol": "UDP", "port": 5353, "appProtocol": "dns"}],
}
NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": META,
    "spec": {"finalizers": ["kubernetes"]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": SPACED,
    "spec": {
        "nodeName": "n1",
        "hostNetwork": True,
        "containers": [
            {
                "name": "c",
                "image": "images.example/c",
                "ports": [{"name": "http", "protocol": "TCP", "containerPort": 80, "hostPort": 0}],
            }
        ],
        "initContainers": [
            {
                "name": "i",
                "restartPolicy": "Always",
                "ports": [{"name": "dns", "protocol": "UDP", "containerPort": 53}],
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
    "status": {
        "phase": "Succeeded",
        "podIP": "10.1.0.5",
        "podIPs": [{"ip": "10.1.0.5"}, {"ip": "fd00::5"}],
        "conditions": [
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:01Z",
                "lastProbeTime": None,
            },
        ],
        "containerStatuses": [{"name": "c", "image": "images.example/c"}],
    },
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": SPACED,
    "spec": {
        "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": "http"}]}],
    },
}
CLUSTER_POLICY = {
    "apiVersion": "policy.networking.k8s.io/v1alpha2",
    "kind": "ClusterNetworkPolicy",
    "metadata": META,
    "spec": {
        "tier": "Admin",
        "priority": 5,
        "subject": {"namespaces": {"matchLabels": {"a": "b"}, "matchExpressions": []}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
        "egress": [{"action": "Accept", "to": [{"networks": ["::/0"]}]}],
    },
    "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
}
RANGES = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "ServiceCIDR",
    "metadata": META,
    "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
EVERY = [NODE, SERVICE, SLICE, NAMESPACE, POD, POLICY, CLUSTER_POLICY, RANGES]
#: Looked at only when what stands beside them is absent.
ONE_NODE = {**NODE, "spec": {"podCIDR": "10.1.0.0/24"}}
ONE_SERVICE = {**SERVICE, "spec": {"clusterIP": "10.96.0.1"}}
ONE_POD = {**POD, "status": {"podIP": "10.1.0.5"}}
#: Fields that are optional in what is whole in the samples, as the API writes it.
INSIDE_POLICIES = (".spec.ingress[]", ".spec.egress[]", ".spec.subject", ".spec.podSelector")


class Recording(dict[str, Any]):
    """Notes which keys are asked for and are not there."""

    def __init__(self, content: dict[str, Any], path: str, missing: set[str]) -> None:
        super().__init__(content)
        self._path, self._missing = path, missing

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self._missing.add(f"{self._path}.{key}")
        return super().get(key, default)


def recording(value: Any, path: str, missing: set[str]) -> Any:
    if isinstance(value, dict):
        below = {key: recording(each, f"{path}.{key}", missing) for key, each in value.items()}
        return Recording(below, path, missing)
    if isinstance(value, list):
        return [recording(each, f"{path}[]", missing) for each in value]
    return value


@pytest.mark.parametrize("document", EVERY, ids=lambda found: found["kind"])
def test_the_samples_hold_every_field_that_is_read(document: dict[str, Any]) -> None:
    """The control: a field that the translation learns to read has to be put into the samples here."""
    missing: set[str] = set()
    translate(recording(document, "", missing))
    found = {path for path in missing if not path.startswith(INSIDE_POLICIES)}
    # A Pod that has podIPs is not asked for podIP; policies are decoded with all of their spec.
    assert found <= {".metadata.namespace"}


@pytest.mark.parametrize(
    "document",
    [*EVERY, ONE_NODE, ONE_SERVICE, ONE_POD],
    ids=lambda found: found["kind"],
)
def test_lean_documents_mean_the_same(document: dict[str, Any]) -> None:
    kind = KINDS[Kind(document["kind"])]
    assert translate(kind.one(json.dumps(document).encode())) == translate(document)
    bare = {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}
    listed = {"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [bare, bare]}
    version, following, items = kind.page(json.dumps(listed).encode())
    assert (version, following) == ("9", "more")
    assert [translate(item) for item in items] == [translate(document)] * 2


@pytest.mark.parametrize("document", EVERY, ids=lambda found: found["kind"])
def test_lean_documents_hold_nothing_else(document: dict[str, Any]) -> None:
    lean = KINDS[Kind(document["kind"])].one(json.dumps(document).encode())
    text = json.dumps(lean)
    for unread in (
        "managedFields",
        "targetRef",
        "images",
        "providerID",
        'selector"',
        "finalizers",
        "image",
        "volumes",
        "containerStatuses",
    ):
        assert f'"{unread}' not in text


def test_empty_list_is_null() -> None:
    assert KINDS[Kind.SERVICE].page(b'{"metadata":{"resourceVersion":"1"},"items":null}') == ("1", "", [])


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"<html>", b'{"items": 5}', b'{"metadata": []}'])
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(ValueError):
        KINDS[Kind.SERVICE].page(data)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"type":"ADDED"}', b'{"type":1,"object":{}}', b"\xff"])
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(ValueError):
        watch_event(line)


def test_bookmark_and_status() -> None:
    event = watch_event(b'{"type":"BOOKMARK","object":{"kind":"Node","metadata":{"resourceVersion":"12"}}}')
    assert (event.type, version_of(event.object)) == ("BOOKMARK", "12")
    error = watch_event(b'{"type":"ERROR","object":{"code":410,"message":"too\\nold"}}')
    assert status_of(error.object) == (410, "too old")
