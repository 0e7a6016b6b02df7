"""A real kube-apiserver with etcd, from the directory that KUBEBUILDER_ASSETS names (as envtest has it)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import RESOURCES

from l3net.kube.registry import KINDS
from l3net.kube.schema import definition_text
from l3net.shell.kubernetes.api import ApiError, KubeApi

#: Kinds of which nothing is left by `wipe`.
WIPED = ("Node", "Service", "EndpointSlice", "Event", "BGPPeer", "BGPFilter", "BGPConfiguration", "IPPool")
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


def real_api_server(directory: Path) -> RealApiServer:
    """One, not yet started; skips the test where there are no programs for it."""
    if assets() is None:
        pytest.skip("KUBEBUILDER_ASSETS names no etcd and kube-apiserver")
    return RealApiServer(directory)


class RealApiServer:
    """`put`, `remove`, `get`, `objects`, `touch` and `kubeconfig` as FakeApiServer has them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self.client: KubeApi

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
        self.client = KubeApi(self.kubeconfig(here / "admin"))
        self._until(lambda: self.client.get("/readyz"))
        self._until(lambda: self.client.get("/api/v1/namespaces/kube-system"))
        for kind in KINDS.ours():
            definition = yaml.safe_load(definition_text(kind))
            self.client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            group, version = definition["spec"]["group"], definition["spec"]["versions"][0]["name"]
            path = f"/apis/{group}/{version}/{definition['spec']['names']['plural']}"
            self._until(lambda path=path: self.client.get(path))

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
            bare = {name: value for name, value in document["metadata"].items() if name != "resourceVersion"}
            try:
                self.client.create(collection, {**document, "metadata": bare})
            except ApiError as err:
                if not err.conflict:
                    raise
                version = json.loads(self.client.get(path))["metadata"]["resourceVersion"]
                metadata = {**document["metadata"], "resourceVersion": version}
                self.client.replace(path, {**document, "metadata": metadata})
            if status and "status" in document:
                self.client.patch(f"{path}/status", {"status": document["status"]})

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        self.client.delete(self._path(kind, name, namespace))

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.client.get(self._path(kind, name, namespace)))
        except ApiError as err:
            if err.not_found:
                return None
            raise
        return found

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """All of a kind, of every namespace."""
        resource = next(each for each in RESOURCES if each.kind == kind)
        root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
        found: list[dict[str, Any]] = json.loads(self.client.get(f"{root}/{resource.plural}"))["items"]
        return found

    def touch(self, kind: str, name: str, namespace: str = "") -> None:
        """Another version of the object, as a heartbeat makes one."""
        change = {"metadata": {"annotations": {"touched": str(time.monotonic_ns())}}}
        with contextlib.suppress(ApiError):
            self.client.patch(self._path(kind, name, namespace), change)

    def allow(self) -> None:
        """Refuses nothing of its own accord."""

    def thaw(self) -> None:
        """Is never frozen."""

    def wipe(self) -> None:
        """As it was when it came up: what tests make is gone."""
        for kind in WIPED:
            for found in self.objects(kind):
                name, namespace = found["metadata"]["name"], found["metadata"].get("namespace", "")
                if (kind, name) != ("Service", "kubernetes"):
                    self.remove(kind, name, namespace)
        for kind, name in (("ConfigMap", "l3net-ledger"), ("Lease", "l3net-controller")):
            with contextlib.suppress(ApiError):
                self.remove(kind, name, "kube-system")

    @classmethod
    def _path(cls, kind: str, name: str, namespace: str) -> str:
        resource = next(each for each in RESOURCES if each.kind == kind)
        document = {"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}}
        if namespace:
            document["metadata"]["namespace"] = namespace
        return cls._places(document)[1]

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
