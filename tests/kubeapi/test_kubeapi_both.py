"""The datastore on the fake API server, and on a real one where KUBEBUILDER_ASSETS names its programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from apiserver import FakeApiServer
from kube_follower import BACKOFF, Follower, configuration, endpoints, node, peer, secret, service
from realapi import RealApiServer, real_api_server

from l3net.model import Kind, ObjectName, Secret
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore

Server: TypeAlias = FakeApiServer | RealApiServer
PASSWORD = {"secretKeyRef": {"name": "bgp", "key": "password"}}


@pytest.fixture(scope="module", params=["fake", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "fake":
        with FakeApiServer() as fake:
            yield fake
        return
    with real_api_server(tmp_path_factory.mktemp("api")) as real:
        yield real


@pytest.fixture
def follower(server: Server, tmp_path: Path) -> Iterator[Follower]:
    server.put(node("n1", "10.0.0.1"), node("n2", "10.0.0.2"), configuration())
    client = KubeApi(server.kubeconfig(tmp_path / "kubeconfig"))
    with Follower(KubernetesDatastore(client, "n1", backoff=BACKOFF)) as found:
        yield found.synced()


def test_objects_come_change_and_go(server: Server, follower: Follower) -> None:
    server.put(service("come", "10.96.0.31"), endpoints("come", "10.244.1.5"))
    follower.until(lambda: "come" in follower.names(Kind.SERVICE), "the service")
    follower.until(lambda: "come-abc" in follower.names(Kind.ENDPOINT_SLICE), "the slice")
    mark = follower.mark()
    server.put(endpoints("come", "10.244.1.6"))
    follower.until(lambda: follower.since(mark), "the change")
    server.remove("EndpointSlice", "come-abc", "default")
    server.remove("Service", "come", "default")
    follower.until(lambda: "come" not in follower.names(Kind.SERVICE), "the end of it")
    follower.until(lambda: "come-abc" not in follower.names(Kind.ENDPOINT_SLICE), "the end of it")


def test_a_list_of_several_pages(server: Server, tmp_path: Path) -> None:
    names = {f"page{number}" for number in range(60)}
    server.put(*(endpoints(name, "10.244.1.5") for name in names))
    client = KubeApi(server.kubeconfig(tmp_path / "kubeconfig"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("l3net.shell.kubernetes.collection.PAGE", 7)
        with Follower(KubernetesDatastore(client, "n1", backoff=BACKOFF)) as found:
            found.synced()
            assert {f"{name}-abc" for name in names} <= found.names(Kind.ENDPOINT_SLICE)


def test_scope_of_nodes(server: Server, follower: Follower) -> None:
    follower.until(lambda: {"n1", "n2"} <= follower.names(Kind.NODE), "every node")
    server.put(configuration(nodeToNodeMesh=False))
    follower.until(lambda: follower.names(Kind.NODE) == {"n1"}, "our node alone")
    server.put(configuration())
    follower.until(lambda: {"n1", "n2"} <= follower.names(Kind.NODE), "every node")


def test_a_named_secret(server: Server, follower: Follower) -> None:
    server.put(secret("bgp", "one"), peer("tor", password=PASSWORD))

    def value() -> object:
        found = follower.state.get((Kind.SECRET, ObjectName("kube-system", "bgp")))
        return found.values["password"] if isinstance(found, Secret) else None

    follower.until(lambda: value() == b"one", "the secret")
    server.put(secret("bgp", "two"))
    follower.until(lambda: value() == b"two", "its change")
    server.remove("Secret", "bgp", "kube-system")
    follower.until(lambda: value() is None, "its end")
