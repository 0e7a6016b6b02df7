"""Manifests, CRDs and roles at a real kube-apiserver, where KUBEBUILDER_ASSETS names its programs.

The fake one reads neither schemas nor CEL nor roles; the other files ask of it what can be asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from controller_rig import Running, balancer, blocks, ingress, node, pool, until
from deploy_chart import VALUES, documents
from kube_follower import BACKOFF, Follower, configuration, own, peer, secret
from realapi import RealApiServer

from l3net.controller.decide import Settings
from l3net.kube.reference import example
from l3net.kube.registry import KINDS
from l3net.shell.kubernetes.api import ApiError, KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore
from l3net.shell.kubernetes.writer import KubeOwnNode

STRICT = "fieldValidation=Strict&dryRun=All"
#: Where each kind of the chart lives.
PLACES = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    **{kind.value: f"/apis/l3net.io/v1alpha1/{kind.value.lower()}s" for kind in KINDS.ours()},
}


@pytest.fixture
def api(real: RealApiServer) -> RealApiServer:
    real.wipe()
    return real


def place(document: dict[str, Any]) -> str:
    return PLACES[document["kind"]].format(document["metadata"].get("namespace", ""))


def try_out(api: RealApiServer, document: dict[str, Any]) -> None:
    """Have it judged, strictly, and not stored. What is there already is well."""
    try:
        api.client.create(f"{place(document)}?{STRICT}", document)
    except ApiError as err:
        if err.code != 409:
            raise


@pytest.mark.parametrize("values", VALUES)
def test_every_manifest_is_taken_without_an_unknown_field(api: RealApiServer, values: str) -> None:
    namespaces = {each["metadata"].get("namespace") for each in documents(VALUES[values])} - {None}
    for name in namespaces:
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for document in documents(VALUES[values]):
        try_out(api, document)


def test_the_one_file_is_taken(api: RealApiServer) -> None:
    text = (Path(__file__).parents[2] / "deploy" / "l3net.yaml").read_text()
    found = [document for document in yaml.safe_load_all(text) if document]
    assert found
    for document in found:
        try_out(api, document)


def test_an_unknown_field_is_refused(api: RealApiServer) -> None:
    """The control."""
    [document] = [each for each in documents({}) if each["metadata"]["name"] == "l3net-controller"][:1]
    with pytest.raises(ApiError, match=r"unknown field|409"):
        api.client.create(f"{place(document)}?{STRICT}", {**document, "speck": {}})


@pytest.mark.parametrize("kind", KINDS.ours(), ids=lambda kind: kind.value)
def test_the_example_of_the_docs_is_taken(api: RealApiServer, kind: Any) -> None:
    try_out(api, yaml.safe_load(example(kind)))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({**configuration(), "metadata": {"name": "other"}}, "only the BGPConfiguration named default"),
        (configuration(holdTime=2), "must be 0, or 3 and more"),
        (configuration(holdTimer=9), "unknown field"),
        (peer("p", holdTime=1), "must be 0, or 3 and more"),
        (own("BGPPeer", "p"), "give either address"),
        (own("BGPPeer", "p", address="192.0.2.1"), "asNumber is required"),
        (own("BGPPeer", "p", address="192.0.2.1", asNumber=2**32), "4294967295"),
        (
            peer("p", nodeSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "values go with In and NotIn",
        ),
        (
            own("BGPFilter", "f", export=[{"action": "Reject", "operations": {"setMED": 1}}]),
            "a rule that rejects changes nothing",
        ),
        (
            own("BGPFilter", "f", export=[{"action": "Accept", "prefixLength": {"min": 9, "max": 8}}]),
            "min must not be above max",
        ),
        (pool("p", "10.244.0.0/16", blockSize=64), "blockSize is at most 32 for IPv4"),
        (pool("p", "10.244.0.0/16", allowedUses=["Everything"]), "Unsupported value"),
    ],
)
def test_what_the_definitions_refuse(api: RealApiServer, document: dict[str, Any], says: str) -> None:
    with pytest.raises(ApiError, match=says):
        try_out(api, document)


def as_account(api: RealApiServer, name: str, path: Path) -> KubeApi:
    """The API as a service account of the chart meets it, its roles in force."""
    for document in documents({}):
        if document["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
            try:
                api.client.create(place(document), document)
            except ApiError as err:
                if err.code != 409:
                    raise
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = api.client.create(f"/api/v1/namespaces/kube-system/serviceaccounts/{name}/token", request)
    return KubeApi(api.kubeconfig(path / f"kubeconfig-{name}", json.loads(answer)["status"]["token"]))


class AsAccount:
    """The server with the kubeconfig of a service account, for a controller."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def kubeconfig(self, _: Path) -> Path:
        return self._path


def test_the_roles_are_enough_for_an_agent_and_no_more(api: RealApiServer, tmp_path: Path) -> None:
    reference = {"secretKeyRef": {"name": "bgp", "key": "password"}}
    api.put(configuration(), node("n1", "10.0.0.1"), peer("tor", password=reference), secret("bgp", "x"))
    client = as_account(api, "l3net-agent", tmp_path)
    with Follower(KubernetesDatastore(client, "n1", backoff=BACKOFF)) as follower:
        follower.synced()
        mine = KubeOwnNode(client, "n1")
        mine.set_network_available()
        mine.want_blocks({4: 2})
        mine.report_sessions("tor", [("10.0.0.9", True, "")])
        follower.until(lambda: any(name.name == "bgp" for _, name in follower.state), "the secret")
        assert not follower.rejected
    found = api.get("Node", "n1") or {}
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert conditions["NetworkUnavailable"] == "False"
    assert found["metadata"]["annotations"]["l3net.io/wants-blocks"]
    assert (api.get("BGPPeer", "tor") or {})["status"]["sessions"][0]["node"] == "n1"
    for attempt in (
        lambda: client.get("/api/v1/secrets"),
        lambda: client.get("/api/v1/namespaces/kube-system/secrets"),
        lambda: client.get("/api/v1/namespaces/kube-system/secrets/other"),
        lambda: client.create("/api/v1/nodes", node("evil")),
        lambda: client.delete("/api/v1/nodes/n1"),
        lambda: client.get("/api/v1/pods"),
    ):
        with pytest.raises(ApiError, match="403"):
            attempt()


def test_the_roles_are_enough_for_a_controller(api: RealApiServer, tmp_path: Path) -> None:
    as_account(api, "l3net-controller", tmp_path)
    api.put(
        pool("four", "10.244.0.0/16"),
        pool("over", "10.244.128.0/17"),
        pool("good", "10.245.0.0/16"),
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
        configuration(),
        node("a"),
        balancer("s"),
    )
    limited: Any = AsAccount(tmp_path / "kubeconfig-l3net-controller")
    running = Running(limited, tmp_path, "one", settings=Settings(grace=0.0))
    try:
        until(lambda: blocks(api, "a") == ["10.245.0.0/24"], "a block of the pool that overlaps none")
        until(lambda: ingress(api, "s"), "an address")
        until(lambda: (api.get("IPPool", "over") or {}).get("status", {}).get("conditions"), "a condition")
        until(lambda: [e for e in api.objects("Event") if e["reason"] == "PoolOverlapsPool"], "an Event")
        assert running.controller.problem == ""
    finally:
        running.stop()
