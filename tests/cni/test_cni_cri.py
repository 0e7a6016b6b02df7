"""containerd as kubelet drives it: pod sandboxes by the CRI socket, their network by l3net and its agent."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Host

grpc = pytest.importorskip("grpc")
from cri import Runtime, Sandbox  # noqa: E402 - needs grpc

pytestmark = [pytest.mark.netns, pytest.mark.slow]

BUSYBOX = Path("/bin/busybox")
LOOPBACK = Path("/usr/lib/cni/loopback")
IMAGE = "l3net.test/pause:1"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


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


@pytest.fixture
def runtime(host: Host, tmp_path: Path) -> Iterator[Runtime]:
    """A containerd of its own: in the host's network namespace, with a mount and a PID namespace.

    When the first process of the PID namespace ends, nothing of the runtime is left, mounts included.
    """
    for path in (BUSYBOX, LOOPBACK, *map(Path, filter(None, [shutil.which("containerd")]))):
        if not path.exists():
            pytest.skip(f"{path} is not installed")
    if shutil.which("containerd") is None or shutil.which("runc") is None:
        pytest.skip("containerd or runc is not installed")
    if platform.machine() not in MACHINES:
        pytest.skip(f"no image for {platform.machine()}")
    base = tmp_path / "cri"
    for name in ("bin", "net.d"):
        (base / name).mkdir(parents=True)
    (base / "bin" / "l3net-cni").symlink_to(host.plugin_dir / "l3net-cni")
    (base / "bin" / "loopback").symlink_to(LOOPBACK)
    plugin = {"type": "l3net-cni", "capabilities": {"portMappings": True}}
    conflist = {"cniVersion": "1.0.0", "name": "l3net", "plugins": [plugin]}
    (base / "net.d" / "05-l3net.conflist").write_text(json.dumps(conflist))
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
        argv += ["containerd", "--config", str(settings)]
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


def test_sandbox(host: Host, runtime: Runtime, ping: Callable[..., bool], run: Callable[..., str]) -> None:
    one = start(runtime, host, "web-0", ports=((0, 80, 8088),))
    two = start(runtime, host, "web-1")
    assert runtime.addresses(one) == ["10.244.0.2", "fd00:10:244:1::2"]
    assert runtime.addresses(two) == ["10.244.0.3", "fd00:10:244:1::3"]
    for address in runtime.addresses(one) + runtime.addresses(two):
        assert ping(host.name, address), address
    assert host.server is not None
    leases = {lease.key.container_id: lease for lease in host.server.leases.leases()}
    assert set(leases) == {one, two}
    pod = leases[one].pod
    assert (pod.namespace, pod.name, pod.uid) == ("shop", "web-0", "uid-web-0")
    assert leases[one].key.ifname == "eth0"
    assert "8088" in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")

    runtime.stop(one)
    runtime.stop(one)  # kubelet repeats it
    runtime.remove(one)
    host.settle()
    assert [lease.key.container_id for lease in host.server.leases.leases()] == [two]
    assert len(host.veths()) == 1
    assert ping(host.name, "10.244.0.3")
    # the address just released is in its cool-down
    again = start(runtime, host, "web-0")
    assert runtime.addresses(again) == ["10.244.0.4", "fd00:10:244:1::4"]
    remove_all(runtime)
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    assert "8088" not in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")


def test_sandbox_while_the_agent_is_away(host: Host, runtime: Runtime) -> None:
    """No new pod without the agent, and nothing of it stays; a stop succeeds and is carried out later."""
    one = start(runtime, host, "web-0")
    host.stop()
    with pytest.raises(grpc.RpcError) as refused:
        runtime.run(Sandbox("web-1", "uid-web-1", cgroup_parent=f"/{host.name}"))
    assert "agent does not answer" in str(refused.value.details())
    runtime.stop(one)
    runtime.remove(one)
    assert runtime.sandboxes() == []
    spool = host.base / "state" / "spool"
    assert any(spool.glob("*.del"))
    server = host.start()
    host.settle()
    assert server.leases.leases() == [] and host.veths() == []
    assert not any(spool.glob("*.del"))
    assert runtime.addresses(start(runtime, host, "web-2"))[0] == "10.244.0.3"
