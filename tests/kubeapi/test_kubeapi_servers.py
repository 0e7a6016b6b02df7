"""The API server by the endpoints of its own service, where the configured address leads nowhere."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from apiserver import FakeApiServer

from l3net.errors import ConfigError
from l3net.model import Endpoint, EndpointSlice, Kind, ObjectName
from l3net.shell.files.serversfile import FILE, ServersFile, ServersFileError
from l3net.shell.kubernetes import servers as module
from l3net.shell.kubernetes.api import ApiError, KubeApi
from l3net.shell.kubernetes.servers import SERVICE, Servers

Ip = Callable[[str], str]
CONFIGURED = "10.96.0.1"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server(directory: Path, name: str, address: str = "127.0.0.1") -> Iterator[ThreadingHTTPServer]:
    """A TLS server whose certificate is for `name`: `IP:...` or `DNS:...`."""
    directory.mkdir()
    key, certificate = directory / "key", directory / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=kube-apiserver"]
    subprocess.run([*command, "-addext", f"subjectAltName={name}"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ThreadingHTTPServer.address_family = 10 if ":" in address else 2  # type: ignore[assignment]
    made = ThreadingHTTPServer((address, 0), _Answer)
    made.seen = []  # type: ignore[attr-defined]
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def client(
    directory: Path, *known: tuple[str, int], url: str = f"https://{CONFIGURED}", **more: object
) -> KubeApi:
    """Of a cluster whose API server is said to be at a service's address."""
    memory = ServersFile(directory)
    memory.write(known)
    cluster = {"server": url, "certificate-authority": str(directory / "tls" / "certificate"), **more}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "canary"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(document))
    return KubeApi(path, memory=memory)


@pytest.mark.netns
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("name", [CONFIGURED, "kubernetes.default.svc"])
def test_the_endpoints_known_last_are_asked(own_netns: Ip, tmp_path: Path, address: str, name: str) -> None:
    kind = "DNS" if name.endswith("svc") else "IP"
    with server(tmp_path / "tls", f"{kind}:{name}", address) as found:
        api = client(tmp_path, ("127.0.0.9", 9), (address, found.server_port), url=f"https://{name}")
        api.get("/api/v1/nodes")
        assert found.seen == ["Bearer canary"]  # type: ignore[attr-defined]
        assert str(found.server_port) in api.servers.by
        api.get("/api/v1/nodes")
        assert len(found.seen) == 2  # type: ignore[attr-defined]


@pytest.mark.netns
def test_who_is_not_whom_the_configured_address_stands_for_gets_nothing(
    own_netns: Ip, tmp_path: Path
) -> None:
    with server(tmp_path / "tls", "IP:127.0.0.1") as found:
        api = client(tmp_path, ("127.0.0.1", found.server_port))
        with pytest.raises(ApiError, match="TLS failed"):
            api.get("/api/v1/nodes")
        insecure = client(tmp_path, ("127.0.0.1", found.server_port), **{"insecure-skip-tls-verify": True})
        with pytest.raises(ApiError, match="refused or no route"):
            insecure.get("/api/v1/nodes")
        plain = client(tmp_path, ("127.0.0.1", found.server_port), url=f"http://{CONFIGURED}")
        with pytest.raises(ApiError, match="refused or no route"):
            plain.get("/api/v1/nodes")
        assert found.seen == []  # type: ignore[attr-defined]


@pytest.mark.netns
def test_the_configured_address_is_used_when_it_answers_again(
    own_netns: Ip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path / "tls", f"IP:{CONFIGURED}", "0.0.0.0") as found:
        port = found.server_port
        api = client(tmp_path, ("127.0.0.1", port), url=f"https://{CONFIGURED}:{port}")
        api.get("/a")
        around = f"https://127.0.0.1:{port}"
        assert api.servers.by == around
        own_netns(f"addr add {CONFIGURED}/32 dev lo")
        api.get("/b")
        assert api.servers.by == around, "not at once: each try may take seconds"
        later = time.monotonic() + module.AROUND
        monkeypatch.setattr(api.servers, "_monotonic", lambda: later)
        api.get("/c")
        assert not api.servers.by


@pytest.mark.netns
def test_without_a_memory_the_error_says_what_to_name(
    own_netns: Ip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path / "tls", f"IP:{CONFIGURED}"):
        client(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", CONFIGURED)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    where = "kubernetes.config.incluster_config"
    (tmp_path / "token").write_text("canary")
    monkeypatch.setattr(f"{where}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{where}.SERVICE_CERT_FILENAME", str(tmp_path / "tls" / "certificate"))
    try:
        api = KubeApi(memory=ServersFile(tmp_path / "none"))
    except ConfigError:
        pytest.skip("the official client keeps these names elsewhere")
    with pytest.raises(ApiError, match=r"apiServer\.host"):
        api.get("/api/v1/nodes")


def slice_of(
    name: str, *addresses: str, of: ObjectName = SERVICE, port: int = 6443, ready: bool = True
) -> EndpointSlice:
    found = tuple(Endpoint(ip_address(each), ready=ready) for each in addresses)
    return EndpointSlice(ObjectName("default", name), of, found, {"https": ("TCP", port)})


def test_endpoints_are_written_when_they_change_and_never_that_there_are_none(tmp_path: Path) -> None:
    servers, file = Servers(ServersFile(tmp_path)), tmp_path / FILE
    one, two = ObjectName("default", "kubernetes"), ObjectName("default", "kubernetes-6")
    servers.note(ObjectName("default", "web"), slice_of("web", "10.0.0.9", of=ObjectName("default", "web")))
    assert not file.exists()
    servers.note(one, slice_of("kubernetes", "10.0.0.2", "10.0.0.1"))
    servers.note(two, slice_of("kubernetes-6", "fd00::1"))
    known = (("10.0.0.1", 6443), ("10.0.0.2", 6443), ("fd00::1", 6443))
    assert servers.known == ServersFile(tmp_path).read() == known
    before = file.stat().st_ino
    servers.note(one, slice_of("kubernetes", "10.0.0.1", "10.0.0.2"))
    assert file.stat().st_ino == before, "nothing new"
    servers.note(one, slice_of("kubernetes", "10.0.0.3"))
    servers.note(two, None)
    assert ServersFile(tmp_path).read() == (("10.0.0.3", 6443),)
    servers.note(one, slice_of("kubernetes", "10.0.0.3", ready=False))
    servers.note(one, None)
    assert Servers(ServersFile(tmp_path)).known == (("10.0.0.3", 6443),)
    assert [each.name for each in tmp_path.iterdir()] == [FILE]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"servers": 1}', '{"servers": [["x", 1]]}', '{"servers": [["10.0.0.1"]]}', "x" * 99999],
)
def test_a_file_that_is_spoilt_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert ServersFile(tmp_path).read() == ()
    assert Servers(ServersFile(tmp_path)).ways("https://a") == ["https://a"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ServersFileError):
        ServersFile(tmp_path / "file").write([("10.0.0.1", 1)])


def test_what_is_followed_is_remembered(api: FakeApiServer, tmp_path: Path) -> None:
    """By an agent's datastore, from the slices that it reads anyway."""
    from kube_follower import BACKOFF, Follower

    from l3net.shell.kubernetes.store import KubernetesDatastore

    api.put(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        }
    )
    reader = KubeApi(api.kubeconfig(tmp_path / "kubeconfig"), memory=ServersFile(tmp_path))
    with Follower(KubernetesDatastore(reader, "n1", backoff=BACKOFF)) as follower:
        follower.synced()
        follower.has(Kind.ENDPOINT_SLICE, "kubernetes")
    assert ServersFile(tmp_path).read() == (("10.0.0.7", 6443),)
