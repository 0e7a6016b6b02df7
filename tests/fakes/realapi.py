"""A real kube-apiserver with etcd, from the directory that KUBEBUILDER_ASSETS names (as envtest has it)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml
from apiserver import RESOURCES

from l3net.kube.schema import OWN_KINDS, definition_text
from l3net.shell.kubeapi import ApiError, KubeApi

TOKEN = "l3net-tests"  # noqa: S105 - of a server that lives for one test
PATIENCE = 60.0


def assets() -> Path | None:
    """Where etcd and kube-apiserver are, if they are."""
    found = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nonexistent"))
    return found if all((found / name).exists() for name in ("etcd", "kube-apiserver")) else None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RealApiServer:
    """`put`, `remove` and `kubeconfig` as FakeApiServer has them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self._client: KubeApi

    def __enter__(self) -> RealApiServer:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        binaries, here = assets(), self._directory
        assert binaries is not None
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        key = here / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text(f'{TOKEN},tests,1,"system:masters"\n')
        self._spawn(
            binaries / "etcd",
            f"--data-dir={here / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",
        )
        self._spawn(
            binaries / "kube-apiserver",
            f"--etcd-servers={client}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={here / 'certs'}",
            f"--token-auth-file={here / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://tests.invalid",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",
        )
        self._client = KubeApi(self.kubeconfig(here / "admin"))
        self._until(lambda: self._client.get("/readyz"))
        for kind in OWN_KINDS:
            definition = yaml.safe_load(definition_text(kind))
            self._client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            group, version = definition["spec"]["group"], definition["spec"]["versions"][0]["name"]
            path = f"/apis/{group}/{version}/{definition['spec']['names']['plural']}"
            self._until(lambda path=path: self._client.get(path))

    def _spawn(self, program: Path, *options: str) -> None:
        with (self._directory / f"{program.name}.log").open("wb") as log:
            self._running.append(subprocess.Popen([program, *options], stdout=log, stderr=log))

    @staticmethod
    def _until(call: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                call()
            except ApiError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def kubeconfig(self, path: Path, token: str | None = TOKEN) -> Path:
        cluster = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [{"name": "real", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token or TOKEN}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "me"}}],
        }
        path.write_text(json.dumps(document))
        return path

    def put(self, *documents: dict[str, Any]) -> None:
        """Create or replace objects whole, status included."""
        for document in documents:
            collection, path, status = self._places(document)
            try:
                self._client.create(collection, document)
            except ApiError as err:
                if not err.conflict:
                    raise
                version = json.loads(self._client.get(path))["metadata"]["resourceVersion"]
                metadata = {**document["metadata"], "resourceVersion": version}
                self._client.replace(path, {**document, "metadata": metadata})
            if status and "status" in document:
                self._client.patch(f"{path}/status", {"status": document["status"]})

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        resource = next(each for each in RESOURCES if each.kind == kind)
        document = {"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}}
        if namespace:
            document["metadata"]["namespace"] = namespace
        self._client.delete(self._places(document)[1])

    @staticmethod
    def _places(document: dict[str, Any]) -> tuple[str, str, bool]:
        """Paths of the collection and of the object, and whether its status is apart."""
        resource = next(
            each
            for each in RESOURCES
            if (each.api_version, each.kind) == (document["apiVersion"], document["kind"])
        )
        root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
        namespace = document["metadata"].get("namespace", "default")
        collection = f"{root}/namespaces/{namespace}" if resource.namespaced else root
        collection += f"/{resource.plural}"
        return collection, f"{collection}/{document['metadata']['name']}", resource.status
