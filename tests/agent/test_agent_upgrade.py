"""A node that runs the release before is upgraded in place, under its running speaker.

What is there stays: state directory, run directory, leases, sessions, routes. The old code is that of a
commit of the repository's own history.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from node_rig import Rig
from test_agent_node import BLOCKS, LEARNED, learned

from l3net.lab.host import Host

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
#: The last commit before the rooms of shell/ were moved: another package, the same files on disk.
BEFORE = "90f31258a7e8b54c0f140b6c8e6eeafa1ec23a0f"


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory that is first on the path of what runs on the node; the old code is there to begin with."""
    archive = git("archive", BEFORE, "l3net", "plugin")
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in this repository: a shallow clone, or no clone at all")
    place = tmp_path / "tree"
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    yield place


def upgrade(tree: Path) -> None:
    """As `pip install --upgrade`: the package is another, and nothing of the old one is left."""
    shutil.rmtree(tree / "l3net")
    shutil.copytree(ROOT / "l3net", tree / "l3net", ignore=shutil.ignore_patterns("__pycache__"))


def attach(rig: Rig, plugin: Path, command: str, name: str, **conf: object) -> dict[str, object]:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugin.parent),
    }
    body = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni", **conf}
    done = rig.node.run([str(plugin)], text=json.dumps(body), environment=environment, check=False)
    found: dict[str, object] = json.loads(done.stdout) if done.stdout.strip() else {}
    return {"exit": done.code, **found}


def test_in_place_under_a_running_speaker(rig: Rig, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Host.environment

    def environment(self: Host, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**inside(self, more), "PYTHONPATH": str(tree)}

    monkeypatch.setattr(Host, "environment", environment)
    subprocess.run([str(ROOT / "plugin/build.sh"), str(tree)], check=True, capture_output=True)
    plugin = tree / "l3net-cni"
    where = rig.node.run([sys.executable, "-c", "import l3net.shell as s; print(s.__file__)"]).stdout
    assert where.startswith(str(tree)), where
    rig.start()
    rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")
    rig.node.run(["ip", "netns", "add", "pod"])
    given = attach(rig, plugin, "ADD", "pod")
    assert given["exit"] == 0, given
    known = rig.inside_run("routes.json")
    rig.until(lambda: known.exists() and "fd77" in known.read_text(), "the old agent to write routes down")
    before, kernel = rig.tor_sessions(), rig.kernel("route show proto 108")

    upgrade(tree)
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the old agent to end")
    rig.start_agent()
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: rig.status().get("ready"), "the new agent")
    running = rig.node.run(["ps", "-o", "args=", "-p", str(rig.exabgp_pid())]).stdout
    assert "-m l3net.shell.exabgp server" in running, "it is the old speaker's"
    assert (rig.tor_sessions(), rig.kernel("route show proto 108")) == (before, kernel)
    assert (rig.tor_routes(), learned(rig)) == (BLOCKS, LEARNED)
    assert rig.status()["problems"] == []
    assert rig.status()["pods"]["leases"] == 1
    assert (
        attach(rig, plugin, "CHECK", "pod", prevResult={k: v for k, v in given.items() if k != "exit"})[
            "exit"
        ]
        == 0
    )

    # The old speaker starts the next ExaBGP out of the new package.
    old = rig.exabgp_pid()
    rig.node.run(["kill", "-KILL", str(old)])
    rig.until(lambda: rig.exabgp_pid() not in (0, old), "a new ExaBGP")
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")

    # And a new speaker takes the place of the old one.
    rig.node.kill("speaker")
    rig.until(lambda: not rig.node.alive("speaker"), "the old speaker to end")
    rig.start_speaker()
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: rig.tor_routes() == BLOCKS and learned(rig) == LEARNED, "routes both ways")
    assert attach(rig, plugin, "DEL", "pod")["exit"] == 0
    assert rig.status()["pods"]["leases"] == 0
