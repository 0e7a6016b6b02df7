"""Certificates that are renewed while a client runs: the API server's authority, and the client's own."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from l3net.shell.kubernetes.api import ApiError, KubeApi


def certificate(path: Path, name: str) -> Path:
    """A certificate that vouches for itself, its key beside it (`.key`)."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", f"{path}.key", "-out", str(path), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return path


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.server.wanted  # type: ignore[attr-defined]
        given = self.connection.getpeercert() or {}
        names = [value for rdn in given.get("subject", ()) for _, value in rdn]
        self.send_response(200 if wanted is None or wanted in names else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = not self.server.clients  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server(own: Path, port: int = 0, clients: tuple[Path, ...] = ()) -> Iterator[ThreadingHTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, f"{own}.key")
    if clients:
        context.verify_mode = ssl.CERT_OPTIONAL
        for each in clients:
            context.load_verify_locations(each)
    made = ThreadingHTTPServer(("127.0.0.1", port), _Answer)
    made.daemon_threads = True
    made.wanted, made.clients = None, clients  # type: ignore[attr-defined]
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def kubeconfig(path: Path, port: int, authority: Path, inline: bool, own: Path | None = None) -> Path:
    def said(key: str, file: Path) -> dict[str, str]:
        data = base64.b64encode(file.read_bytes()).decode()
        return {f"{key}-data": data} if inline else {key: str(file)}

    cluster = {"server": f"https://127.0.0.1:{port}", **said("certificate-authority", authority)}
    user: dict[str, str] = {"token": "canary"}
    if own is not None:
        user = {**said("client-certificate", own), **said("client-key", Path(f"{own}.key"))}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3net.shell.kubernetes.api.RELOAD_EVERY", 0.0)


@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_another_authority(tmp_path: Path, inline: bool) -> None:
    """The kubeconfig, or the file it names, is written anew; nothing is restarted."""
    first, second = certificate(tmp_path / "first", "one"), certificate(tmp_path / "second", "two")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(first.read_bytes())
    config = tmp_path / "kubeconfig"
    with server(first) as api:
        port = api.server_address[1]
        client = KubeApi(kubeconfig(config, port, authority, inline))
        client.get("/api/v1/nodes")
    with server(second, port):
        with pytest.raises(ApiError, match="TLS failed: is the CA the right one"):  # the control
            client.get("/api/v1/nodes")
        authority.write_bytes(second.read_bytes())
        kubeconfig(config, port, authority, inline)
        client.get("/api/v1/nodes")


@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_another_certificate_of_its_own(tmp_path: Path, inline: bool) -> None:
    """As kubelet's, which runs out and is renewed: the server takes the old one no longer, also on a
    connection that is there."""
    server_own, first, second = (
        certificate(tmp_path / name, name) for name in ("server", "node-first", "node-second")
    )
    mine = tmp_path / "current"
    for ending in ("", ".key"):
        Path(f"{mine}{ending}").write_bytes(Path(f"{first}{ending}").read_bytes())
    config = tmp_path / "kubeconfig"
    with server(server_own, clients=(first, second)) as api:
        api.wanted = "node-first"  # type: ignore[attr-defined]
        port = api.server_address[1]
        client = KubeApi(kubeconfig(config, port, server_own, inline, mine))
        client.get("/api/v1/nodes")
        api.wanted = "node-second"  # type: ignore[attr-defined]
        with pytest.raises(ApiError) as refused:
            client.get("/api/v1/nodes")
        assert refused.value.code == 401, "the control"
        for ending in ("", ".key"):
            Path(f"{mine}{ending}").write_bytes(Path(f"{second}{ending}").read_bytes())
        kubeconfig(config, port, server_own, inline, mine)
        client.get("/api/v1/nodes")
