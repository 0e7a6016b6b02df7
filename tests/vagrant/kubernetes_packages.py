"""Stand-ins for Kubernetes' packages in a signed apt repository: they record how they were called."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tempfile
from pathlib import Path

_RECORD = """#!/bin/sh
echo "${0##*/} $*" >>/var/log/stand-ins
"""
_KUBEADM = (
    _RECORD
    + """
while [ $# -gt 0 ]; do
    case $1 in
        init | join) verb=$1 ;;
        --config) shift; cat "$1" >>/var/log/stand-ins ;;
    esac
    shift
done
mkdir -p /etc/kubernetes
echo kubelet >/etc/kubernetes/kubelet.conf
[ "$verb" != init ] || echo admin >/etc/kubernetes/admin.conf
"""
)
#: What is applied on standard input is read to its end, as the real one does. A second run is no second
#: record: the listing of the root would see it.
_KUBECTL = """#!/bin/sh
line="kubectl $*"
case $* in
    *"-f -"*) cat >/dev/null ;;
    *"-o yaml"*) echo "kind: ConfigMap" ;;
esac
grep -qxF "$line" /var/log/stand-ins 2>/dev/null || echo "$line" >>/var/log/stand-ins
"""
#: Answers like an API server that is alive: TLS, and nothing else.
_API = """
import http.server, socketserver, ssl, subprocess
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/run/k",
                "-out", "/run/c", "-subj", "/CN=lab", "-days", "1"], check=True, capture_output=True)
server = http.server.HTTPServer(("10.0.4.1", 6443), Healthy)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/run/c", "/run/k")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
PROGRAMS = {"kubeadm": _KUBEADM, "kubectl": _KUBECTL, "kubelet": _RECORD, "cri-tools": _RECORD}


def kubernetes_repository(directory: Path) -> Path:
    """Make the repository in a directory of the tree; its path on the machine. Needs dpkg-deb and gpg."""
    directory.mkdir()
    entries = [_package(directory, name, script) for name, script in PROGRAMS.items()]
    packages = "\n".join(entries)
    (directory / "Packages").write_text(packages)
    (directory / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
    sums = "".join(
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.name}\n"
        for path in (directory / "Packages", directory / "Packages.gz")
    )
    (directory / "Release").write_text(
        f"Origin: stand-ins\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{sums}"
    )
    # Not below `directory`: gpg's agent has its socket there, and a socket's path is short.
    with tempfile.TemporaryDirectory() as home:
        gpg = [
            "gpg",
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        for argv in (
            [*gpg, "--quick-generate-key", "stand-ins", "rsa2048", "sign", "never"],
            [*gpg, "--armor", "--output", str(directory / "Release.key"), "--export"],
            [*gpg, "--clearsign", "--output", str(directory / "InRelease"), str(directory / "Release")],
            ["gpgconf", "--homedir", home, "--kill", "all"],
        ):
            subprocess.run(argv, check=True, capture_output=True, text=True)
    (directory / "api.py").write_text(_API)
    for name in ("podman", "ctr"):
        shim = directory / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(_RECORD)
        shim.chmod(0o755)
    return Path("/vagrant") / directory.name


def _package(directory: Path, name: str, script: str) -> str:
    """Build one package; its paragraph for the index."""
    tree = directory / f"{name}.tree"
    program = tree / "usr/bin" / ("crictl" if name == "cri-tools" else name)
    program.parent.mkdir(parents=True)
    program.write_text(script)
    program.chmod(0o755)
    control = (
        f"Package: {name}\nVersion: 1.34.0\nArchitecture: all\nMaintainer: nobody\nDescription: a stand-in\n"
    )
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(control)
    file = directory / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(file)], check=True, capture_output=True
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
