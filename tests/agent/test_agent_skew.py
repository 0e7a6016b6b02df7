"""Agent and speaker of different releases, each beside the other, and the way back.

The older release is a commit of the repository's own history, in a directory of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import FakeApiServer
from node_rig import CONFIGURATION, NODE, TOR4, Rig, peer
from test_agent_node import BLOCKS, LEARNED, learned
from test_agent_upgrade import BEFORE, ROOT, attach, git

pytestmark = [pytest.mark.netns, pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    archive = git("archive", BEFORE, "l3net", "plugin")
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in this repository: a shallow clone, or no clone at all")
    place = tmp_path / "old"
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    yield place


def start(rig: Rig, name: str, tree: Path) -> None:
    options = ["--datastore", f"dir:{rig.manifests}", "--node-name", "node"] if name == "agent" else []
    argv = [sys.executable, "-m", "l3net.cli.main", name, *options]
    rig.node.spawn(name, argv, environment={"PYTHONPATH": str(tree)})


def stop(rig: Rig, name: str) -> None:
    rig.node.kill(name)
    rig.until(lambda: not rig.node.alive(name), f"the {name} to end")


def test_an_older_agent_beside_a_newer_speaker_and_back(rig: Rig, old: Path) -> None:
    """As `helm rollback` has it: the agent of before comes under the newer speaker; then the newer one."""
    subprocess.run([str(ROOT / "plugin/build.sh"), str(old)], check=True, capture_output=True)
    plugin = old / "l3net-cni"
    rig.start()
    rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")
    rig.node.run(["ip", "netns", "add", "pod"])
    given = attach(rig, plugin, "ADD", "pod")
    assert given["exit"] == 0, given
    sessions, kernel = rig.tor_sessions(), rig.kernel("route show proto 108")
    for tree in (old, ROOT):
        stop(rig, "agent")
        start(rig, "agent", tree)
        rig.until(lambda: rig.status().get("ready"), f"the agent of {tree}")
        rig.established("10.90.0.2", "fd90::2")
        rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")
        assert (rig.tor_sessions(), rig.kernel("route show proto 108")) == (sessions, kernel), tree
        assert rig.status()["problems"] == []
        assert rig.status()["pods"]["leases"] == 1
    assert attach(rig, plugin, "DEL", "pod")["exit"] == 0, "the older plugin, the newer agent"
    assert rig.status()["pods"]["leases"] == 0


def test_an_agent_beside_older_crds_and_newer_objects(rig: Rig) -> None:
    """Kinds that are not there the agent does without, and fields that it does not know it ignores."""
    with FakeApiServer() as api, api.served_in([Path(f"/proc/{rig.node.pid}/ns/net")]):
        api.undefined |= {"egressips", "floatingips", "clusternetworkpolicies", "servicecidrs"}
        api.put(NODE, CONFIGURATION, TOR4, peer("tor6", "fd90::2", ofALaterRelease=True))
        rig.start_tor()
        rig.start_speaker()
        options = ["--kubeconfig", str(api.kubeconfig(rig.directory / "kubeconfig")), "--node-name", "node"]
        rig.node.spawn("agent", [sys.executable, "-m", "l3net.cli.main", "agent", *options])
        rig.established("10.90.0.2", "fd90::2")
        rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")
        assert rig.status()["problems"] == []
        assert any("egressips" in path for _, path in api.requests), "the control: it has asked for them"
