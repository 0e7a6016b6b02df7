"""The chart's manifests for the values that tests look at."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
sys.path.insert(0, str(ROOT / "tools"))

import chart as tool  # noqa: E402, F401 - for the tests
from gotemplate import render_chart  # noqa: E402

#: Values that together reach every branch of the templates.
VALUES: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "everything": {
        "logFormat": "json",
        "events": False,
        "image": {"repository": "registry.example/l3net", "digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "pull"}],
        "apiServer": {"host": "10.0.0.10", "port": "6443"},
        "agent": {
            "mtu": 9000,
            "metricsAddress": "[::1]:9618",
            "env": [{"name": "TZ", "value": "UTC"}],
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"example.com/a": "yes"},
        },
        "speaker": {"image": {"tag": "0.0.9"}, "port": 1179, "podAnnotations": {"b": "1"}},
        "bfd": {"enabled": True, "image": {"tag": "0.0.8"}, "podAnnotations": {"d": "1"}},
        "glass": {
            "enabled": True,
            "tokenSecret": "glass",
            "podAnnotations": {"e": "1"},
            "cluster": {
                "enabled": True,
                "throughApiServer": True,
                "behindProxy": True,
                "allowHosts": ["glass.example"],
            },
        },
        "monitoring": {
            "podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}, "runbook": "https://wiki/alerts"},
        },
        "controller": {
            "metricsAddress": "0.0.0.0:9619",
            "replicas": 3,
            "blocks": False,
            "loadBalancers": "all",
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"c": "1"},
        },
        "bgpSecrets": {"namespace": "network", "names": ["bgp", "tor"]},
        "bgpConfiguration": {"asNumber": 64600, "nodeToNodeMesh": False},
        "bgpPeers": {
            "tor": {
                "address": "10.0.0.1",
                "asNumber": 65001,
                "password": {"secretKeyRef": {"name": "tor", "key": "p"}},
            }
        },
        "bgpFilters": {"none": {"import": [{"action": "Reject"}]}},
        "ipPools": {
            "pods": {"cidr": "10.244.0.0/16"},
            "lb": {"cidr": "fd00::/112", "allowedUses": ["LoadBalancer"]},
        },
    },
    "least": {
        "bfd": {"enabled": True, "image": {"digest": "sha256:" + "2" * 64}},
        "agent": {"metricsAddress": "127.0.0.1:9618"},
        "controller": {"enabled": False},
        "bgpSecrets": {"names": []},
        "speaker": {"image": {"digest": "sha256:" + "1" * 64}},
    },
}


def documents(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every object the chart makes of these values."""
    rendered = render_chart(CHART, values)
    return [
        document
        for name, text in rendered.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def find(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """One object by kind and name."""
    return next(each for each in found if each["kind"] == kind and each["metadata"]["name"] == name)


def workloads(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """DaemonSets and Deployments, by name."""
    for document in found:
        if document["kind"] in ("DaemonSet", "Deployment"):
            yield document["metadata"]["name"], document


def containers(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every container, init containers too."""
    for _, workload in workloads(found):
        spec = workload["spec"]["template"]["spec"]
        yield from (*spec.get("initContainers", ()), *spec["containers"])
