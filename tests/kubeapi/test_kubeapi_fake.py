"""The fake API server does what the tests that stand on it believe, seen through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


@pytest.fixture
def core(api: FakeApiServer, tmp_path: Path) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig(tmp_path / "config"))))


def service(name: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def test_create_read_replace_delete(api: FakeApiServer, core: client.CoreV1Api) -> None:
    made = core.create_namespaced_service("default", service("web"))
    assert core.read_namespaced_service("web", "default").metadata.uid == made.metadata.uid
    made.spec.external_ips = ["192.0.2.1"]
    replaced = core.replace_namespaced_service("web", "default", made)
    assert replaced.metadata.generation == 2
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_service("web", "default", made)
    assert stale.value.status == 409
    core.delete_namespaced_service("web", "default")
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_service("web", "default")
    assert gone.value.status == 404
    assert api.calls[Call("update", "", "services")] == 2


def test_status_is_apart(api: FakeApiServer, core: client.CoreV1Api) -> None:
    core.create_namespaced_service("default", service("web"))
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    core.patch_namespaced_service("web", "default", {"status": status})
    assert "status" not in (api.get("Service", "web") or {})
    core.patch_namespaced_service_status(
        "web", "default", {"status": status, "spec": {"type": "LoadBalancer"}}
    )
    kept = api.get("Service", "web") or {}
    assert kept["status"] == status
    assert "type" not in kept["spec"]
    assert api.calls[Call("patch", "", "services", "status")] == 1


def test_pages_are_of_one_moment(api: FakeApiServer, core: client.CoreV1Api) -> None:
    api.put(*(service(f"s{number:02}") for number in range(5)))
    first = core.list_service_for_all_namespaces(limit=2)
    api.remove("Service", "s04")
    names = [item.metadata.name for item in first.items]
    token = first.metadata._continue
    while token:
        page = core.list_service_for_all_namespaces(limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        assert page.metadata.resource_version == first.metadata.resource_version
    assert names == ["s00", "s01", "s02", "s03", "s04"]
    api.compact()
    with pytest.raises(ApiException) as expired:
        core.list_service_for_all_namespaces(limit=2, _continue=first.metadata._continue)
    assert expired.value.status == 410


def test_watch_resumes_and_ends(api: FakeApiServer, core: client.CoreV1Api) -> None:
    api.put(service("a"))
    version = core.list_service_for_all_namespaces().metadata.resource_version
    api.put(service("b"), service("a", type="NodePort"))
    api.remove("Service", "b")
    seen = [
        (event["type"], event["object"].metadata.name)
        for event in watch.Watch().stream(
            core.list_service_for_all_namespaces, resource_version=version, timeout_seconds=1
        )
    ]
    assert seen == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


def test_watch_by_selector_sees_leaving_as_deleted(api: FakeApiServer, core: client.CoreV1Api) -> None:
    def labelled(value: str) -> dict[str, Any]:
        document = service("a")
        document["metadata"]["labels"] = {"app": value}
        return document

    version = core.list_service_for_all_namespaces().metadata.resource_version
    api.put(labelled("x"))
    api.put(labelled("y"))
    seen = [
        event["type"]
        for event in watch.Watch().stream(
            core.list_service_for_all_namespaces,
            label_selector="app=x",
            resource_version=version,
            timeout_seconds=1,
        )
    ]
    assert seen == ["ADDED", "DELETED"]


def test_bookmarks_and_gone(api: FakeApiServer, core: client.CoreV1Api) -> None:
    version = core.list_service_for_all_namespaces().metadata.resource_version

    def lines(**options: object) -> list[dict[str, Any]]:
        answer = core.list_service_for_all_namespaces(
            watch=True, timeout_seconds=1, resource_version=version, _preload_content=False, **options
        )
        return [json.loads(line) for line in answer.data.splitlines()]

    assert [line["type"] for line in lines(allow_watch_bookmarks=True)] == ["BOOKMARK"]
    assert lines() == []
    api.compact()
    assert [(line["type"], line["object"]["code"]) for line in lines()] == [("ERROR", 410)]


def test_tokens_and_refusals(api: FakeApiServer, tmp_path: Path) -> None:
    api.tokens = {"good"}
    path = tmp_path / "config2"
    bad = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig(path, "bad"))))
    with pytest.raises(ApiException) as refused:
        bad.list_node()
    assert refused.value.status == 401
    good = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig(path, "good"))))
    good.list_node()
    api.refuse(429, "TooManyRequests", verb="list", times=1, headers={"Retry-After": "1"})
    api.allowed = lambda call: call.resource == "nodes"
    with pytest.raises(ApiException) as forbidden:
        good.list_namespace()
    assert forbidden.value.status == 403


def test_pod_cidrs_are_set_once(api: FakeApiServer, core: client.CoreV1Api) -> None:
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    core.patch_node("n1", {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}})
    with pytest.raises(ApiException) as refused:
        core.patch_node("n1", {"spec": {"podCIDRs": ["10.0.1.0/24"], "podCIDR": "10.0.1.0/24"}})
    assert refused.value.status == 422


def test_pods_of_a_node(api: FakeApiServer, core: client.CoreV1Api) -> None:
    for name, where in (("a", "n1"), ("b", "n2")):
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {"nodeName": where, "containers": [{"name": "c"}]},
            }
        )
    found = core.list_pod_for_all_namespaces(field_selector="spec.nodeName=n1")
    assert [each.metadata.name for each in found.items] == ["a"]


def test_a_kind_without_its_crd_is_not_found(api: FakeApiServer, tmp_path: Path) -> None:
    custom = client.CustomObjectsApi(config.new_client_from_config(str(api.kubeconfig(tmp_path / "config"))))
    kind = "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies"
    assert custom.list_cluster_custom_object(*kind)["items"] == []
    api.undefined.add(kind[2])
    with pytest.raises(ApiException) as absent:
        custom.list_cluster_custom_object(*kind)
    assert absent.value.status == 404
