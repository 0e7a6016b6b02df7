"""Real runtimes execute the plugin: podman 4.3 with the CNI backend, containerd 1.6 by `ctr run --cni`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Host

pytestmark = [pytest.mark.netns, pytest.mark.slow]

BUSYBOX = Path("/bin/busybox")
NESTED = "needs a machine where runc may make cgroups"


def run(argv: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **more)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system out of busybox-static."""
    if not BUSYBOX.exists():
        pytest.skip("busybox-static is not installed")
    root = tmp_path / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for applet in ("sh", "ip", "ping", "sleep", "cat"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


def entered(host: Host, *argv: str) -> list[str]:
    """In the host's network namespace only: `ip netns exec` would hide the cgroups."""
    return ["nsenter", f"--net=/run/netns/{host.name}", *argv]


@pytest.fixture
def podman(bare_host: Host, tmp_path: Path) -> Iterator[Any]:
    """Podman with a root, a network directory and a plugin directory of its own."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    conf_dir, settings = tmp_path / "net.d", tmp_path / "containers.conf"
    conf_dir.mkdir()
    settings.write_text(
        f"""
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroupns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
tmp_dir = "{tmp_path}/tmp"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{bare_host.plugin_dir}"]
network_config_dir = "{conf_dir}"
default_network = "l3test"
"""
    )
    ranges = [[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd00:91::/64"}]]
    plugin = {
        "type": "l3net-cni",
        "bridge": "l3test0",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": True,
        "capabilities": {"portMappings": True, "ips": True, "mac": True},
        "ipam": {"type": "l3net-ipam", "dataDir": str(tmp_path / "leases"), "ranges": ranges},
    }
    conflist = {"cniVersion": "1.0.0", "name": "l3test", "plugins": [plugin]}
    (conf_dir / "10-l3test.conflist").write_text(json.dumps(conflist))
    storage = f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run-podman"\ngraphroot = "{tmp_path}/root"\n'
    (tmp_path / "storage.conf").write_text(storage)
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(settings),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(entered(bare_host, "podman", *arguments), env=environment)

    yield call
    call("rm", "--all", "--force", "--time", "0")


def test_podman(bare_host: Host, podman: Any, rootfs: Path) -> None:
    started = podman("run", "-d", "--name", "one", "-p", "8088:80", "--rootfs", str(rootfs), "sleep", "600")
    if "cgroup" in started.stderr and started.returncode:
        pytest.skip(f"{NESTED}: {started.stderr.strip()[-120:]}")
    assert started.returncode == 0, started.stderr
    found = json.loads(podman("inspect", "one").stdout)[0]["NetworkSettings"]["Networks"]["l3test"]
    assert (found["IPAddress"], found["GlobalIPv6Address"]) == ("10.91.0.2", "fd00:91::2")
    for gateway in ("10.91.0.1", "fd00:91::1"):
        assert podman("exec", "one", "ping", "-c", "1", "-W", "5", gateway).returncode == 0
    second = podman(
        "run", "-d", "--name", "two", "--ip", "10.91.0.77", "--rootfs", str(rootfs), "sleep", "600"
    )
    assert second.returncode == 0, second.stderr
    assert podman("exec", "two", "ping", "-c", "1", "-W", "5", "10.91.0.2").returncode == 0
    assert len(bare_host.veths()) == 2
    assert podman("rm", "--force", "--time", "0", "one", "two").returncode == 0
    assert bare_host.veths() == []
    left = run(["ip", "netns", "exec", bare_host.name, "nft", "list", "ruleset"]).stdout
    assert "10.91.0" not in left and "8088" not in left


@pytest.fixture
def containerd(host: Host, tmp_path: Path) -> Iterator[list[str]]:
    """A containerd of its own in the host's namespace; the argv of a ctr that talks to it.

    ctr takes /opt/cni/bin and /etc/cni/net.d and no other, so both are put there in a mount namespace.
    """
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed")
    base = tmp_path / "containerd"
    for name in ("root", "state", "net.d"):
        (base / name).mkdir(parents=True)
    socket = base / "c.sock"
    (base / "config.toml").write_text(
        f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    )
    conflist = {"cniVersion": "1.0.0", "name": "l3net", "plugins": [{"type": "l3net-cni"}]}
    (base / "net.d" / "05-l3net.conflist").write_text(json.dumps(conflist))
    script = (
        'set -e; mount -t tmpfs none /opt; mkdir -p /opt/cni/bin; mount --bind "$1" /opt/cni/bin; '
        'mkdir -p /etc/cni/net.d; mount --bind "$2" /etc/cni/net.d; shift 2; exec "$@"'
    )
    mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    ctr = [*mounts, str(host.plugin_dir), str(base / "net.d"), "ctr", "--address", str(socket)]
    with (base / "log").open("w") as log:
        argv = entered(host, "containerd", "--config", str(base / "config.toml"))
        with subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
            try:
                for _ in range(100):
                    if run(["ctr", "--address", str(socket), "version"]).returncode == 0:
                        break
                    time.sleep(0.1)
                yield entered(host, *ctr)
            finally:
                daemon.terminate()


def test_containerd(host: Host, containerd: list[str], rootfs: Path) -> None:
    environment = {**os.environ, "L3NET_CNI_SOCKET": str(host.base / "run" / "cni.sock")}
    script = "ip -o addr show dev eth0; ping -c 1 -W 5 10.244.0.1 && ping -c 1 -W 5 fd00:10:244:1::1"
    argv = [*containerd, "run", "--rm", "--cni", "--rootfs", str(rootfs), "one", "/bin/sh", "-c", script]
    done = run(argv, env=environment)
    if "cgroup" in done.stderr and done.returncode:
        pytest.skip(f"{NESTED}: {done.stderr.strip()[-120:]}")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "10.244.0.2/32" in done.stdout and "fd00:10:244:1::2/128" in done.stdout
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    again = run(argv, env=environment)
    assert "10.244.0.3/32" in again.stdout  # the first address is in its cool-down
