"""Sandboxes that a real runtime made on another network go on as l3net's, and its DEL frees them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Host

grpc = pytest.importorskip("grpc")
from cri import Runtime  # noqa: E402 - needs grpc
from cri_rig import containerd, start, wait  # noqa: E402

pytestmark = [pytest.mark.netns, pytest.mark.slow]

REFERENCE = Path("/usr/lib/cni")
BLOCKS = ("10.244.7.0/24", "fd00:10:244:7::/120")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "spec": {"podCIDRs": list(BLOCKS)},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}


@pytest.fixture
def runtime(bare_host: Host, tmp_path: Path) -> Iterator[Runtime]:
    """It has the reference plugins alone, as kubenet would be configured."""
    if not (REFERENCE / "bridge").exists():
        pytest.skip("the reference plugins are not installed")
    networks = str(tmp_path / "networks")
    ranges = [[{"subnet": each}] for each in BLOCKS]
    plugin = {
        "type": "bridge",
        "bridge": "cbr0",
        "isDefaultGateway": True,
        "ipam": {"type": "host-local", "ranges": ranges, "dataDir": networks},
    }
    conflist = {"cniVersion": "1.0.0", "name": "old", "plugins": [plugin]}
    plugins = {name: REFERENCE / name for name in ("bridge", "host-local")}
    with containerd(bare_host, tmp_path / "cri", conflist, plugins) as found:
        yield found


class Move:
    """`l3net` on the host, with the runtime's directories and an agent of its own."""

    def __init__(self, host: Host, base: Path) -> None:
        self._host, self._base = host, base
        (base / "manifests").mkdir()
        (base / "manifests" / "node.json").write_text(json.dumps(NODE))
        agent = " ".join(
            (
                f"{sys.executable} -m l3net.cli.main agent --datastore dir:{base}/manifests --node-name n1",
                f"--run-dir {base}/run --state-dir {base}/state --cni-conf-dir {base}/cri/net.d",
            )
        )
        (base / "start.sh").write_text(f"{agent} </dev/null >{base}/agent.log 2>&1 &\necho $! >{base}/pid\n")

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["ip", "netns", "exec", self._host.name, sys.executable, "-m", "l3net.cli.main", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        log = self._base / "agent.log"
        assert not check or done.returncode == 0, (done, log.read_text() if log.exists() else "")
        return done

    def ipam(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self("ipam", "--state-dir", str(self._base / "state"), *words, check=False)

    def places(self) -> list[str]:
        base = self._base
        found = {
            "--state-dir": base / "state",
            "--run-dir": base / "run",
            "--conf-dir": base / "cri/net.d",
            "--bin-dir": base / "cri/bin",
        }
        return [str(word) for pair in found.items() for word in pair]

    def node(self) -> None:
        sources = ["--datastore", f"dir:{self._base}/manifests", "--node-name", "n1"]
        sources += ["--cni-cache", str(self._base / "cri/libcni/results"), *self.places()]
        told: dict[str, Any] = json.loads(self("migrate", "plan", *sources, "-o", "json").stdout)
        assert sorted(each["pod"] for each in told["moves"]) == ["shop/web-0", "shop/web-1"], told
        more = ["--plugin-dir", str(self._host.plugin_dir), "--timeout", "60"]
        self("migrate", "node", "--yes", *sources, *more, "--start", f"sh {self._base}/start.sh")

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._base / "pid").read_text()), 15)


@pytest.fixture
def move(bare_host: Host, tmp_path: Path) -> Iterator[Move]:
    found = Move(bare_host, tmp_path)
    yield found
    found.end()


def test_a_runtimes_sandboxes(
    bare_host: Host, runtime: Runtime, move: Move, ping: Callable[..., bool]
) -> None:
    one, two = start(runtime, bare_host, "web-0"), start(runtime, bare_host, "web-1")
    before = [runtime.addresses(each) for each in (one, two)]
    move.node()
    assert [runtime.addresses(each) for each in (one, two)] == before
    for address in before[0] + before[1]:
        assert ping(bare_host.name, address), address
    wait(runtime.network_ready, "the runtime does not see l3net's network")
    new = start(runtime, bare_host, "web-2")
    assert not set(runtime.addresses(new)) & {*before[0], *before[1]}
    for address in runtime.addresses(new):
        assert ping(bare_host.name, address), address

    for sandbox in (one, two, new):
        runtime.stop(sandbox)
        runtime.remove(sandbox)
    assert move.ipam("show", "-o", "json").stdout.strip() == "[]"
    wait(lambda: not bare_host.veths(), "interfaces of pods are left")
    assert move.ipam("check").returncode == 0
