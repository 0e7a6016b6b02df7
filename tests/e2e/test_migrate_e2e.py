"""Nodes of a cluster move to l3net one by one, from each kind of network, while packets are counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from migrate_rig import NODES, RACK, REFERENCE, OldNode, Source, all_reach_all, old_cluster, traffic
from small_lab import lab_of

from l3net.lab.pods import add_pod, delete_pod, find_plugin
from l3net.lab.up import Lab

pytestmark = [
    *(pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(400)),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference plugins are not installed"),
]
OTHERS = ("kubenet", "flannel", "calico", "cilium")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_of(RACK, tmp_path) as found:
        yield found


def inside(nodes: list[OldNode]) -> list[Source]:
    return [(pod.name, pod.node, pod.name) for node in nodes for pod in node.pods]


def targets(nodes: list[OldNode]) -> dict[str, list[str]]:
    return {pod.name: pod.addresses for node in nodes for pod in node.pods}


@pytest.mark.parametrize("kind", ["bridge", *(pytest.param(each, marks=pytest.mark.soak) for each in OTHERS)])
def test_a_move_that_fails_is_undone_and_so_is_one_that_is_done(lab: Lab, kind: str) -> None:
    """What the kernel has after each way back is what it had before; other nodes' pods lose nothing."""
    datastore = lab.directory / "manifests"
    client: list[Source] = [] if kind == "flannel" else [("client", lab.host("client"), None)]
    with old_cluster(lab, kind) as nodes:
        node, rest = nodes["n1"], [nodes["n2"], nodes["n3"]]
        all_reach_all([*client, *inside(list(nodes.values()))], targets(list(nodes.values())))
        before = node.picture()
        with traffic([*client, *inside(rest)], targets(rest)) as lost:
            failed = node.move(datastore, "--start", "false", check=False)
            assert (failed.code, "Everything is as it was" in failed.stderr) == (1, True), failed
            assert "`false` failed" in failed.stderr
            assert node.picture() == before
            assert node.status()["state"] == "none"
            _killed(node, datastore, "release", "1")
            assert node.picture() == before
            all_reach_all([*client, *inside(rest)], targets([node]))
            node.move(datastore)
            assert node.l3net("ipam", "check").code == 0
            new = add_pod(node.host, "new", find_plugin())
            assert not {str(each) for each in new.addresses} & {a for pod in node.pods for a in pod.addresses}
            all_reach_all(
                [*client, *inside(list(nodes.values()))], {"new": [str(each) for each in new.addresses]}
            )
            all_reach_all([("new", node.host, "new")], targets(list(nodes.values())))
            refused = node.l3net("migrate", "node", "--undo", "--yes", *node.places(), check=False)
            assert (refused.code, "has made 1 pods since" in refused.stderr) == (1, True), refused
            delete_pod(node.host, "new", find_plugin())
            told = node.undo(datastore)
            assert "with 2 of its pods" in told.stdout
            assert node.picture() == before
            all_reach_all([*client, *inside(list(nodes.values()))], targets(list(nodes.values())))
        assert not any(lost.values()), lost


def _killed(node: OldNode, datastore: Path, step: str, count: str) -> None:
    """A move that SIGKILL ends there is told of, not begun anew, and can be undone."""
    assert node.move(datastore, failing=(step, count, "kill")).code == -9
    told = node.l3net("migrate", "status", *node.places(), check=False)
    assert (told.code, "a move was begun and not ended" in told.stdout) == (1, True), told
    again = node.move(datastore, check=False)
    assert (again.code, "`l3net migrate node --undo` puts all back" in again.stderr) == (2, True), again
    node.undo(datastore)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["bridge", "calico"])
def test_a_step_that_fails_leaves_everything_as_it_was(lab: Lab, kind: str) -> None:
    datastore = lab.directory / "manifests"
    with old_cluster(lab, kind) as nodes:
        node, rest = nodes["n1"], [nodes["n2"], nodes["n3"]]
        before = node.picture()
        for step, count in (
            *(("hold", "1"), ("move", "1"), ("move", "2"), ("take_off", "1"), ("release", "1")),
            *(("_plug", "2"), ("_settle", "1"), ("_rename", "2")),
        ):
            if (step, kind) == ("take_off", "calico"):
                continue  # there is no bridge
            told = node.move(datastore, failing=(step, count, "raise"))
            assert (told.code, "Everything is as it was" in told.stderr) == (1, True), (step, told)
            assert node.picture() == before, step
            _killed(node, datastore, step, count)
            assert node.picture() == before, step
        all_reach_all(inside(rest), targets([node]))
        if kind == "bridge":
            _without_its_bridge(node, datastore)
            all_reach_all(inside(rest), targets([node]))
        # A job's pod that ends meanwhile holds up nobody.
        told = node.move(datastore, failing=("move", "1", "gone"))
        assert (told.code, "has ended meanwhile" in told.stdout) == (0, True), told
        assert node.status()["podsMoved"] == 1


def _without_its_bridge(node: OldNode, datastore: Path) -> None:
    """Nothing is begun where there is nothing to give the pods back to, and l3net goes on."""
    node.move(datastore)
    node.host.run(["ip", "link", "del", node.bridge])
    refused = node.undo(datastore, check=False)
    assert (refused.code, f"ip link add {node.bridge} type bridge" in refused.stderr) == (1, True), refused
    assert node.status()["agentRuns"]
    node.host.run(["ip", "link", "add", node.bridge, "up", "type", "bridge"])
    node.undo(datastore)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["bridge", *OTHERS])
def test_node_by_node(lab: Lab, kind: str, record_property: Callable[[str, int], None]) -> None:
    datastore = lab.directory / "manifests"
    with old_cluster(lab, kind) as nodes:
        every = list(nodes.values())
        outside: list[Source] = [] if kind == "flannel" else [("client", lab.host("client"), None)]
        all_reach_all([*outside, *inside(every)], targets(every))
        plan = every[0].plan(datastore)
        assert (plan["possible"], len(plan["moves"])) == (True, 2)
        assert every[0].plan(datastore, below=every[0].path("below")) == plan
        assert any("masquerade pods" in each for each in plan["notes"]) is (kind == "kubenet")
        for name in NODES:
            node, rest = nodes[name], [nodes[each] for each in NODES if each != name]
            with (
                traffic([*outside, *inside(rest)], targets(rest)) as lost,
                traffic(inside(rest)[:1], targets([node])) as moved,
            ):
                node.move(datastore)
            assert not any(lost.values()), lost
            record_property(f"lost-by-moved-pods-{name}", sum(moved.values()))
            assert (node.status()["state"], node.status()["podsMoved"]) == ("moved", 2)
        anywhere: list[Source] = [("client", lab.host("client"), None), *inside(every)]
        all_reach_all(anywhere, targets(every))
        with traffic(anywhere, targets(every)) as lost:
            _end_of_the_old(every)
        assert not any(lost.values()), lost
        for family in ("-4", "-6"):  # those that were kept by hand
            lab.host("tor").run(["ip", family, "route", "flush", "proto", "static"])
        all_reach_all(anywhere, targets(every))
        _a_moved_pod_goes(every[0])


def _end_of_the_old(nodes: list[OldNode]) -> None:
    """Tunnels and bridges go; l3net's routes are there."""
    for node in nodes:
        told = node.l3net("migrate", "finish", "--yes", *node.places()).stdout
        if node.kind == "flannel":
            assert "removed 4 routes through flannel.1" in told
            assert "vxlan device flannel.1 stays" in told
        assert node.status()["state"] == "none"
        assert ("removed the masquerading of 2 pods (iptables)" in told) is (node.kind == "kubenet")
        assert "CNI-" not in node.host.run(["iptables-save"]).stdout
        if node.kind != "calico":
            assert f"removed bridge {node.bridge}" in told
        assert sorted(each.name for each in node.path("net.d").iterdir()) == ["05-l3net.conflist"]
    for node in nodes if nodes[0].kind == "flannel" else ():
        node.host.run(["ip", "link", "del", "flannel.1"])


def _a_moved_pod_goes(node: OldNode) -> None:
    """The runtime's DEL, as l3net's plugin gets it, frees what was the old network's."""
    pod = node.pods[0]
    environment = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": f"/run/netns/{pod.name}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(find_plugin().parent),
    }
    text = '{"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}'
    node.host.run([str(find_plugin())], text=text, environment=environment)
    assert node.l3net("ipam", "who", pod.addresses[0], check=False).code == 1
    assert node.l3net("ipam", "check").code == 0
    assert len(node.host.run(["ip", "-br", "link", "show", "master", "l3net0"]).stdout.splitlines()) == 1
