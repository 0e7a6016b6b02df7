"""Podman with a root, a network directory and a plugin directory of its own, in a network namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from plugin_helpers import end_helpers

BUSYBOX = Path("/bin/busybox")
NESTED = "needs a machine where runc may make cgroups"
Podman: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def run(argv: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **more)


def entered(netns: str, *argv: str) -> list[str]:
    """In a network namespace only: `ip netns exec` would hide the cgroups."""
    return ["nsenter", f"--net=/run/netns/{netns}", *argv]


def root_of_busybox(directory: Path) -> Path:
    """A root file system out of busybox-static."""
    if not BUSYBOX.exists():
        pytest.skip("busybox-static is not installed")
    root = directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for applet in ("sh", "ip", "ping", "sleep", "cat", "nc"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


@contextmanager
def podman_in(
    netns: str, directory: Path, plugin_dir: Path, conf: dict[str, Any], **environment: str
) -> Iterator[Podman]:
    """`podman ...` on one network: `conf` is of its only plugin, or a whole conflist."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    plain = {"cniVersion": "1.0.0", "name": "l3test", "plugins": [conf]}
    conflist = conf if "plugins" in conf else plain
    conf_dir, settings = directory / "net.d", directory / "containers.conf"
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
tmp_dir = "{directory}/tmp"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugin_dir}"]
network_config_dir = "{conf_dir}"
default_network = "{conflist["name"]}"
"""
    )
    (conf_dir / "10-l3net.conflist").write_text(json.dumps(conflist))
    storage = (
        f'[storage]\ndriver = "vfs"\nrunroot = "{directory}/run-podman"\ngraphroot = "{directory}/root"\n'
    )
    (directory / "storage.conf").write_text(storage)
    environment = {
        **os.environ,
        "L3NET_CNI_HELPERS": str(directory / "helpers"),
        **environment,
        "CONTAINERS_CONF": str(settings),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(entered(netns, "podman", *arguments), env=environment)

    try:
        yield call
    finally:
        call("rm", "--all", "--force", "--time", "0")
        end_helpers(directory / "helpers")


def started(podman: Podman, *arguments: str) -> None:
    """`podman run -d ...`, which has to work; skips where containers cannot be run at all."""
    done = podman("run", "-d", *arguments)
    if "cgroup" in done.stderr and done.returncode:
        pytest.skip(f"{NESTED}: {done.stderr.strip()[-120:]}")
    assert done.returncode == 0, done.stderr
