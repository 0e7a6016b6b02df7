"""One agent on simulated ports with a whole cluster declared: CPU, and operations, which no load changes.

An operation is a call of a function, Python's or the interpreter's own. The kernel, nft and ExaBGP are the
tests' fakes, so that what is counted is the agent; `bench/kube.py` has the real ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from scaling import cluster

TESTS = Path(__file__).parents[2] / "tests"
SHAPES: dict[str, dict[str, Any]] = {
    "routers": {"nodeToNodeMesh": False},
    "reflectors": {"nodeToNodeMesh": True, "topology": "RouteReflectors"},
    "mesh": {"nodeToNodeMesh": True},
}
#: A mesh of more nodes than this is not measured: nobody should have it.
MOST_MESH = 1000


async def _one(nodes: int, shape: str) -> dict[str, Any]:
    from scene import TOR4, TOR6, Scene  # noqa: PLC0415 - of the tests' path
    from sim_node import configuration, node  # noqa: PLC0415

    rig = Scene()
    own = node("n1", "10.244.1.0/24", "fd00:244:1::/120")
    rig.datastore.apply(own, configuration(**SHAPES[shape]), TOR4, TOR6)
    for document in cluster.objects(nodes, mesh=False):
        if document["kind"] not in ("BGPConfiguration", "BGPPeer"):
            rig.datastore.apply(document)
    found: dict[str, Any] = {"nodes": nodes, "shape": shape}
    began = time.process_time()
    rig.start()
    await asyncio.sleep(20)
    found["first sync, s"] = round(time.process_time() - began, 2)
    found["nftables text, MB"] = round(len(rig.firewall.text) / 1e6, 2)
    began = time.process_time()
    await asyncio.sleep(60)
    found["quiet, % of a processor"] = round((time.process_time() - began) / 60 * 100, 2)
    labelled, moved = cluster.node(5), cluster.service(7)
    for turn in range(3):  # the first makes what is kept; the last is told
        labelled["metadata"]["labels"]["turn"] = str(turn)
        moved["spec"]["ports"][0]["port"] = 81 + turn
        for what, document in (
            ("a Node", labelled),
            ("a Service", moved),
            ("an EndpointSlice", cluster.endpoint_slice(7, "IPv6", nodes, turn)),
        ):
            await asyncio.sleep(31.3 - 30 * (turn > 0))
            began = time.process_time()
            rig.datastore.apply(document)
            await asyncio.sleep(0.7)
            found[f"{what}, ms"] = round((time.process_time() - began) * 1000, 1)
    return found


def measure(sizes: list[int]) -> list[dict[str, Any]]:
    for room in (*TESTS.iterdir(), *(TESTS / "simulated").iterdir()):
        if room.is_dir() and not room.name.startswith("__"):
            sys.path.append(str(room))
    from simloop import simulate  # noqa: PLC0415

    found = []
    for nodes in sizes:
        for shape in SHAPES:
            if shape != "mesh" or nodes <= MOST_MESH:
                found.append(simulate(_one(nodes, shape)))
                print(json.dumps(found[-1]), flush=True)
    return found
