"""Labs that tests write down themselves, gone with the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from l3net.lab.errors import LabError
from l3net.lab.pods import find_plugin
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, bring_up, take_down

#: Two nodes and a client at one router, and a service with a pod on each node.
RACK: dict[str, Any] = {
    "routers": [{"name": "tor", "asNumber": 65001}],
    "clients": [{"name": "client"}],
    "nodes": [{"name": "n1", "pods": ["web-1"]}, {"name": "n2", "pods": ["web-2"]}],
    "links": [{"between": ["tor", each]} for each in ("client", "n1", "n2")],
    "services": [
        {"name": "web", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"], "port": 80, "pods": ["web-1", "web-2"]}
    ],
}


@contextmanager
def lab_of(
    topology: dict[str, Any], directory: Path, kind: RouterKind | None = RouterKind.FRR
) -> Iterator[Lab]:
    """It is up and has converged; skips the test where pods want a plugin that is not there. `kind`: of every
    router; None: as the topology says."""
    if any(node.get("pods") for node in topology["nodes"]):
        try:
            find_plugin()
        except LabError as err:
            pytest.skip(str(err))
    file = directory / "topology.yaml"
    file.write_text(yaml.safe_dump(topology))
    name = f"s{uuid.uuid4().hex[:8]}"
    try:
        yield bring_up(name, read_source(file, kind), lambda what: None)
    finally:
        take_down(name)
