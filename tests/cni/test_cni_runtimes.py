"""Real runtimes execute the plugin: podman 4.3 with the CNI backend, containerd 1.6 by `ctr run --cni`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from podman_rig import NESTED, Podman, entered, podman_in, root_of_busybox, run, started

if TYPE_CHECKING:
    from conftest import Host

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return root_of_busybox(tmp_path)


def documented() -> list[dict[str, Any]]:
    """The configurations of docs/cni.md, as they stand there: without an agent, and with one."""
    page = Path(__file__).parent.parent.parent / "docs" / "cni.md"
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.fixture
def podman(bare_host: Host, tmp_path: Path) -> Iterator[Podman]:
    conflist = documented()[0]
    store = str(tmp_path / "leases")
    with podman_in(bare_host.name, tmp_path, bare_host.plugin_dir, conflist, L3NET_CNI_STATE=store) as call:
        yield call


def test_podman(bare_host: Host, podman: Podman, rootfs: Path) -> None:
    started(podman, "--name", "one", "-p", "8088:80", "--rootfs", str(rootfs), "sleep", "600")
    helpers = bare_host.helpers()
    found = json.loads(podman("inspect", "one").stdout)[0]["NetworkSettings"]["Networks"]["l3net"]
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
    assert len(helpers) == 1 and bare_host.helpers() == helpers, "the calls that followed were a helper's"
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
    (base / "net.d" / "05-l3net.conflist").write_text(json.dumps(documented()[1]))
    script = (
        'set -e; mount -t tmpfs none /opt; mkdir -p /opt/cni/bin; mount --bind "$1" /opt/cni/bin; '
        'mkdir -p /etc/cni/net.d; mount --bind "$2" /etc/cni/net.d; shift 2; exec "$@"'
    )
    mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    ctr = [*mounts, str(host.plugin_dir), str(base / "net.d"), "ctr", "--address", str(socket)]
    with (base / "log").open("w") as log:
        argv = entered(host.name, "containerd", "--config", str(base / "config.toml"))
        with subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
            try:
                for _ in range(100):
                    if run(["ctr", "--address", str(socket), "version"]).returncode == 0:
                        break
                    time.sleep(0.1)
                yield entered(host.name, *ctr)
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
