"""From full mesh to route reflectors and back in a running cluster: no route goes away meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_lab import lab_of

from l3net.lab.up import Lab
from l3net.lab.wait import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

TOPOLOGY = {
    "routers": [{"name": "tor", "asNumber": 65001}],
    "nodes": [{"name": f"n{number}"} for number in range(1, 5)],
    "links": [{"between": ["tor", f"n{number}"]} for number in range(1, 5)],
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_of(TOPOLOGY, tmp_path) as made:
        yield made


def mesh(lab: Lab, node: str) -> dict[str, str]:
    """Mesh sessions of a node by name and family, and their state."""
    out = lab.host(node).run([sys.executable, "-m", "l3net.cli.main", "status", "-o", "json"]).stdout
    return {
        f"{peer['name']} {peer['address']}": peer["state"]
        for peer in json.loads(out)["peers"]
        if peer["name"].startswith("mesh:")
    }


def set_topology(lab: Lab, **spec: object) -> None:
    file = lab.manifests / "bgp.yaml"
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(file.read_text()))
    for document in documents:
        if document["kind"] == "BGPConfiguration":
            document["spec"].update(spec)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump_all(documents))
    temporary.rename(file)


def peers(lab: Lab, node: str) -> set[str]:
    return {name.split()[0].removeprefix("mesh:") for name in mesh(lab, node)}


def told(lab: Lab) -> str:
    return "\n".join(
        f"{node.name}: {mesh(lab, node.name)}\n{lab.host(node.name).log_tail('agent', 14)}"
        for node in lab.topology.nodes
    )


def all_up(lab: Lab, wanted: dict[str, set[str]]) -> bool:
    return all(
        peers(lab, node) == others and set(mesh(lab, node).values()) <= {"established"}
        for node, others in wanted.items()
    )


def test_mesh_to_reflectors_and_back_without_losing_a_route(lab: Lab) -> None:
    names = [node.name for node in lab.topology.nodes]
    full = {name: set(names) - {name} for name in names}
    until(lambda: all_up(lab, full), 40, "the full mesh")
    blocks = {str(block) for name in names for block in lab.topology.node(name).blocks}  # type: ignore[union-attr]

    def learned(node: str) -> set[str]:
        shown = lab.host(node).run(["ip", "-j", "route", "show", "proto", "108"]).stdout
        shown6 = lab.host(node).run(["ip", "-6", "-j", "route", "show", "proto", "108"]).stdout
        routes = json.loads(shown or "[]") + json.loads(shown6 or "[]")
        return {route["dst"] for route in routes if "gateway" in route or "nexthops" in route} & blocks

    def whole() -> bool:
        return all(len(learned(name)) == 6 for name in names)  # three other nodes, both families

    until(whole, 30, "every block at every node")
    for name in names:
        lab.host(name).spawn("monitor", ["ip", "monitor", "route"])
    labels = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}
    nodes = lab.manifests / "nodes.yaml"
    documents = list(yaml.safe_load_all(nodes.read_text()))
    for document in documents:
        document["metadata"].setdefault("labels", {})["kubernetes.io/hostname"] = document["metadata"]["name"]
    nodes.with_suffix(".tmp").write_text(yaml.safe_dump_all(documents))
    nodes.with_suffix(".tmp").rename(nodes)
    set_topology(lab, topology="RouteReflectors", routeReflector={"nodeSelector": labels})
    star = {name: {"n1"} if name != "n1" else set(names) - {"n1"} for name in names}
    until(lambda: all_up(lab, star), 60, lambda: told(lab))
    assert whole()
    set_topology(lab, topology="Mesh")
    until(lambda: all_up(lab, full), 60, "the full mesh again")
    until(whole, 30, "every block at every node")
    for name in names:
        gone = [
            line
            for line in (lab.host(name).directory / "monitor.log").read_text().splitlines()
            if line.startswith("Deleted") and any(block in line for block in blocks)
        ]
        assert gone == [], name
    # The control: a node that is no longer declared takes its block along.
    documents = [document for document in documents if document["metadata"]["name"] != "n4"]
    nodes.with_suffix(".tmp").write_text(yaml.safe_dump_all(documents))
    nodes.with_suffix(".tmp").rename(nodes)
    until(
        lambda: "Deleted" in (lab.host("n2").directory / "monitor.log").read_text(), 30, "the control to show"
    )
