"""Containers of podman have policies: their labels are in a manifest, by the container's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pod_node import Node
from podman_rig import Podman, podman_in, root_of_busybox, started
from test_policy_agent import BLOCKS, pod
from truth import labels, net_policy

pytestmark = pytest.mark.netns


@pytest.fixture
def podman(host: Node, tmp_path: Path) -> Iterator[Podman]:
    socket = str(host.base / "run" / "cni.sock")
    plugin = {"type": "l3net-cni"}
    with podman_in(host.name, tmp_path, host.plugin.parent, plugin, L3NET_CNI_SOCKET=socket) as call:
        yield call


def test_containers_of_podman(host: Node, podman: Podman, tmp_path: Path) -> None:
    from_good = [{"from": [{"podSelector": labels(role="good")}]}]
    opened = net_policy("default", "web", labels(app="web"), ingress=from_good)
    host.declare(*BLOCKS, more=[pod("web", app="web"), pod("good", role="good"), opened])
    host.start()
    root = root_of_busybox(tmp_path)
    for name in ("web", "good", "stranger"):
        started(podman, "--name", name, "--rootfs", str(root), "sleep", "600")
    shown = podman("exec", "web", "ip", "-o", "addr", "show", "dev", "eth0", "scope", "global").stdout
    addresses = [line.split()[3].partition("/")[0] for line in shown.splitlines()]
    assert len(addresses) == 2
    for address in addresses:
        assert podman("exec", "good", "ping", "-c", "1", "-W", "5", address).returncode == 0
        assert podman("exec", "stranger", "ping", "-c", "1", "-W", "1", address).returncode
