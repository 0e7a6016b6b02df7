"""Where a cluster's looking glasses are, and the way to them by the API server's proxy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_chart import documents, find

from l3net.errors import L3netError
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.glasspods import GlassPods

PODS = "/api/v1/namespaces/net/pods"


def pod(name: str, node: str, address: str, **metadata: str) -> dict[str, Any]:
    ports = [{"name": "other", "containerPort": 1}, {"name": "glass", "containerPort": 9179}]
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"nodeName": node, "containers": [{"name": "glass", "ports": ports}]},
        "status": {"podIP": address},
    }


class Server(ThreadingHTTPServer):
    """Answers by path; `seen` are paths with their headers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, object]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
        code, value = self.server.answers.get(path, (404, {"kind": "Status", "message": "no", "code": 404}))
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def pods(server: Server, tmp_path: Path) -> GlassPods:
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {"token": "the-api-servers"}}],
            }
        )
    )
    return GlassPods(KubeApi(file), "net")


def test_pods_are_found(server: Server, pods: GlassPods) -> None:
    items = [
        pod("b", "n2", "fd00::2"),
        pod("a", "n1", "10.0.0.1"),
        pod("going", "n3", "10.0.0.3", deletionTimestamp="now"),
        {"metadata": {"name": "new"}, "spec": {}, "status": {}},
    ]
    server.answers[PODS] = 200, {"items": items}
    assert [(each.node, each.url) for each in pods.list()] == [
        ("n1", "http://10.0.0.1:9179"),
        ("n2", "http://[fd00::2]:9179"),
    ]
    assert "component%3Dglass&" in server.seen[0][0] + "&"


def test_the_proxy_hands_the_token_on(server: Server, pods: GlassPods) -> None:
    server.answers[PODS] = 200, {"items": [pod("a", "n1", "10.0.0.1")]}
    [found] = pods.list()
    path = "/api/v1/nodes/self/fabric"
    server.answers[f"{PODS}/a:9179/proxy{path}"] = 200, {"node": "n1"}
    code, body = found.ask(path, {"limit": "1"}, {"X-L3net-Token": "ours"})
    assert (code, json.loads(body)) == (200, {"node": "n1"})
    asked, headers = server.seen[-1]
    assert asked.endswith("?limit=1")
    assert (headers["x-l3net-token"], headers["authorization"]) == ("ours", "Bearer the-api-servers")
    assert found.ask("/nothing", {}, {})[0] == 404
    server.answers[f"{PODS}/a:9179/proxy/broken"] = 503, {"kind": "Status", "message": "no endpoint"}
    with pytest.raises(L3netError, match="API server"):
        found.ask("/broken", {}, {})


@pytest.mark.parametrize("through", [False, True])
def test_the_chart_allows_that_and_nothing_more(through: bool) -> None:
    cluster = {"enabled": True, "throughApiServer": through}
    found = documents({"glass": {"enabled": True, "tokenSecret": "t", "cluster": cluster}})
    [role] = [each for each in found if each["kind"] == "Role" and each["metadata"]["name"] == "l3net-glass"]
    rules = {(tuple(rule["resources"]), tuple(rule["verbs"])) for rule in role["rules"]}
    assert rules == {(("pods",), ("list",))} | ({(("pods/proxy",), ("get",))} if through else set())
    named = [each for each in found if each["kind"] == "ClusterRoleBinding"]
    assert "l3net-glass" not in {subject["name"] for each in named for subject in each["subjects"]}
    daemon = find(found, "DaemonSet", "l3net-glass")
    assert daemon["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
