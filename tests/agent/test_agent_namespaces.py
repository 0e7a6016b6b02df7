"""A pod of a namespace that has a pool of its own, from manifests to its address, with the real agent."""

from __future__ import annotations

import copy
import json
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, Rig

ROOT = Path(__file__).parents[2]
POOL = {
    "apiVersion": "l3net.io/v1alpha1",
    "kind": "IPPool",
    "metadata": {"name": "tenant-a"},
    "spec": {"cidr": "10.20.0.0/16", "namespaceSelector": {"matchLabels": {"tenant": "a"}}},
}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def declare(rig: Rig, *added: str) -> None:
    node: dict[str, Any] = copy.deepcopy(NODE)
    if added:
        node["metadata"]["annotations"] = {"l3net.io/blocks": ",".join(added)}
    rig.declare("node.yaml", node, CONFIGURATION, POOL, namespace("red", tenant="a"), namespace("blue"))


def add(rig: Rig, plugin: Path, name: str, space: str) -> dict[str, Any]:
    rig.node.run(["ip", "netns", "add", name], check=False)
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": name,
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugin.parent),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={space};K8S_POD_NAME={name}",
    }
    conf = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}
    done = rig.node.run([str(plugin)], text=json.dumps(conf), environment=environment, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.netns
def test_a_pod_waits_for_its_pool_and_gets_of_it(rig: Rig, tmp_path: Path) -> None:
    subprocess.run([str(ROOT / "plugin/build.sh"), str(tmp_path)], check=True, capture_output=True)
    plugin = tmp_path / "l3net-cni"
    declare(rig)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    refused = add(rig, plugin, "first", "red")
    assert refused["code"] == 11 and "tenant-a" in refused["msg"]
    other = add(rig, plugin, "other", "blue")
    assert ip_address(other["ips"][0]["address"].partition("/")[0]) in ip_network("10.244.1.0/24")

    declare(rig, "10.20.7.0/24")  # as the controller adds it
    rig.until(lambda: "10.20.7.1" in rig.kernel("addr show l3net0"), "the block's gateway")
    answer: dict[str, Any] = {}

    def attached() -> bool:
        answer.update(add(rig, plugin, "first", "red"))
        return "ips" in answer

    rig.until(attached, "the address")
    assert ip_address(answer["ips"][0]["address"].partition("/")[0]) in ip_network("10.20.7.0/24")
    reached = rig.node.run(["ip", "netns", "exec", "first", "ping", "-c1", "-W5", "10.244.1.1"], check=False)
    assert reached.code == 0
