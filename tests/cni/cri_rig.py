"""A containerd of a test's own, as kubelet drives it by the CRI socket."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cri import Runtime, Sandbox

if TYPE_CHECKING:
    from conftest import Host

BUSYBOX = Path("/bin/busybox")
LOOPBACK = Path("/usr/lib/cni/loopback")
IMAGE = "l3net.test/pause:1"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
#: libcni keeps what it knows below /var/lib/cni and nowhere else: that is the test's own.
START = """
set -e
mount -t tmpfs none /var/lib
mkdir /var/lib/cni
mount --bind "$1" /var/lib/cni
exec containerd --config "$2"
"""


def pause_image(path: Path) -> None:
    """An OCI image of busybox that sleeps, as kubelet's pause does."""
    with tarfile.open(path, "w") as image:

        def put(name: str, body: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            image.addfile(entry, io.BytesIO(body))

        def blob(kind: str, body: bytes) -> dict[str, object]:
            digest = hashlib.sha256(body).hexdigest()
            put(f"blobs/sha256/{digest}", body)
            media = f"application/vnd.oci.image.{kind}"
            return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(body)}

        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as root:
            root.add(BUSYBOX, "bin/busybox")
        content = layer.getvalue()
        machine = {"architecture": MACHINES[platform.machine()], "os": "linux"}
        config = machine | {
            "config": {"Entrypoint": ["/bin/busybox", "sleep", "100000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": blob("config.v1+json", json.dumps(config).encode()),
            "layers": [blob("layer.v1.tar", content)],
        }
        described = blob("manifest.v1+json", json.dumps(manifest).encode())
        described |= {"platform": machine, "annotations": {"io.containerd.image.name": IMAGE}}
        put("index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
        put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def wait(what: Callable[[], bool], why: str) -> None:
    for _ in range(300):
        with contextlib.suppress(grpc.RpcError):
            if what():
                return
        time.sleep(0.1)
    raise AssertionError(why)


def configure(base: Path, socket: Path) -> Path:
    settings = base / "config.toml"
    settings.write_text(
        f"""
version = 2
root = "{base}/root"
state = "{base}/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{base}/bin"
    conf_dir = "{base}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""
    )
    return settings


@contextlib.contextmanager
def containerd(
    host: Host, base: Path, conflist: Mapping[str, Any], plugins: Mapping[str, Path]
) -> Iterator[Runtime]:
    """A containerd of its own: in the host's network namespace, with a mount and a PID namespace.

    When the first process of the PID namespace ends, nothing of the runtime is left, mounts included. The
    cache of libcni is `base`/libcni. Skips the test where a program is missing.
    """
    for path in (BUSYBOX, LOOPBACK):
        if not path.exists():
            pytest.skip(f"{path} is not installed")
    if shutil.which("containerd") is None or shutil.which("runc") is None:
        pytest.skip("containerd or runc is not installed")
    if platform.machine() not in MACHINES:
        pytest.skip(f"no image for {platform.machine()}")
    for name in ("bin", "net.d", "libcni"):
        (base / name).mkdir(parents=True)
    for name, path in {**plugins, "loopback": LOOPBACK}.items():
        (base / "bin" / name).symlink_to(path)
    (base / "net.d" / ("05-l3net.conflist" if "l3net-cni" in plugins else "10-old.conflist")).write_text(
        json.dumps(conflist)
    )
    socket, archive = base / "c.sock", base / "pause.tar"
    settings = configure(base, socket)
    pause_image(archive)
    own = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    argv = ["nsenter", f"--net=/run/netns/{host.name}", "unshare", *own]
    environment = {
        **os.environ,
        "L3NET_CNI_SOCKET": str(host.base / "run" / "cni.sock"),
        "L3NET_CNI_SPOOL": str(host.base / "state" / "spool"),
    }
    with (base / "log").open("w") as log, contextlib.ExitStack() as undo:
        argv += ["sh", "-c", START, "sh", str(base / "libcni"), str(settings)]
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        undo.callback(daemon.wait, 30)
        undo.callback(daemon.kill)
        undo.callback(remove_cgroups, host.name)
        found = Runtime(socket)
        undo.callback(found.close)
        wait(lambda: bool(found.call("Version")), "containerd does not answer")
        ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]
        argv = [*ctr, "images", "import", "--snapshotter", "native", str(archive)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        wait(lambda: found.has_image(IMAGE), "the image is not seen")
        wait(found.network_ready, "the network is not ready")
        undo.callback(remove_all, found)
        yield found


def remove_all(runtime: Runtime) -> None:
    for sandbox in runtime.sandboxes():
        runtime.stop(sandbox)
        runtime.remove(sandbox)


def remove_cgroups(parent: str) -> None:
    for directory in Path("/sys/fs/cgroup").glob(f"**/{parent}"):
        with contextlib.suppress(OSError):
            directory.rmdir()


def start(runtime: Runtime, host: Host, name: str, **more: object) -> str:
    pod = Sandbox(name, f"uid-{name}", "shop", cgroup_parent=f"/{host.name}", **more)  # type: ignore[arg-type]
    try:
        return runtime.run(pod)
    except grpc.RpcError as err:
        if "cgroup" in str(err.details()):
            pytest.skip(f"needs a machine where runc may make cgroups: {err.details()[-120:]}")
        raise
