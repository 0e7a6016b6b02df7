"""The manifests of docs/policy.md are such as l3net reads, and do what the document says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from policy_facts import read

from l3net.kube.translate import translate
from l3net.kube.unserved import unserved
from l3net.policy.trial import trial
from l3net.policy.view import of_state

TEXT = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
DOCUMENTS = [
    document
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    for document in yaml.safe_load_all(block)
]


def pod(name: str, address: str, **labels: str) -> dict[str, Any]:
    namespace, short = name.split("/")
    ports = [{"name": "pg", "containerPort": 5432}] if short == "db" else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": short, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


def space(name: str, tenant: str = "") -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": name} | ({"l3net.io/tenant": tenant} if tenant else {})
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


OTHERS = [
    *(space(name) for name in ("shop", "kube-system", "elsewhere")),
    space("evil-prod", "evil"),
    space("platform-registry", "platform"),
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n2", "labels": {"kubernetes.io/os": "linux"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
    },
    pod("shop/web", "10.244.1.1", app="web"),
    pod("shop/db", "10.244.1.2", app="db"),
    pod("kube-system/dns", "10.244.1.3", **{"k8s-app": "kube-dns"}),
    pod("acme-prod/a", "10.244.1.4"),
    pod("evil-prod/e", "10.244.1.5"),
    pod("platform-registry/r", "10.244.1.6"),
    pod("elsewhere/x", "10.244.1.7"),
    pod("monitoring/m", "10.244.1.8"),
    space("monitoring"),
]


def test_all_of_them_are_read() -> None:
    assert len(DOCUMENTS) >= 10
    for document in DOCUMENTS:
        skipped: list[Any] = []
        assert translate(document, skipped) is not None and not skipped
        assert not list(unserved(document))


@pytest.mark.parametrize(
    ("source", "destination", "port", "allowed"),
    [
        ("shop/web", "kube-system/dns", "53/udp", True),
        ("shop/web", "kube-system/dns", "54/udp", False),
        ("shop/web", "elsewhere/x", "80/tcp", False),
        ("198.51.100.12", "shop/web", "8085/tcp", True),
        ("198.51.100.13", "shop/web", "8085/tcp", False),
        ("198.51.100.12", "shop/db", "8085/tcp", False),
        ("acme-prod/a", "evil-prod/e", "80/tcp", False),
        ("acme-prod/a", "platform-registry/r", "5000/tcp", True),
        ("acme-prod/a", "platform-registry/r", "5001/tcp", False),
        ("acme-prod/a", "kube-system/dns", "53/udp", True),
        ("acme-prod/a", "169.254.169.254", "80/tcp", False),
        ("acme-prod/a", "169.254.169.253", "80/tcp", True),
        ("elsewhere/x", "acme-prod/a", "80/tcp", False),
        ("elsewhere/x", "kube-system/dns", "80/tcp", True),
        ("monitoring/m", "192.0.2.2", "9100/tcp", True),
    ],
)
def test_they_do_what_is_said(source: str, destination: str, port: str, allowed: bool) -> None:
    view = of_state(read([*OTHERS, *DOCUMENTS]))
    assert trial(view, source, destination, port)["allowed"] is allowed
