"""Consistent balancing by the real agent: the device and the tables are put back, and go with the last
service that needs them."""

from __future__ import annotations

from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, Rig, brought_up

pytestmark = pytest.mark.netns

VIP = "203.0.113.7"
OTHER = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "other"},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.90.0.2"}]},
}
WEB = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"clusterIPs": ["10.96.0.10"], "externalIPs": [VIP], "ports": [{"name": "web", "port": 80}]},
}
ENDS = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-4", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.244.1.9"], "nodeName": "node"},
        {"addresses": ["10.244.2.9"], "nodeName": "other"},
    ],
    "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
}


def configuration(**spec: object) -> dict[str, Any]:
    advertise = {
        "clusterIPs": {"enabled": False},
        "externalIPs": {"enabled": True, "cidrs": ["203.0.113.0/24"]},
    }
    found: Any = CONFIGURATION["spec"]
    return {**CONFIGURATION, "spec": {**found, "advertise": advertise, **spec}}


def test_what_it_needs_is_put_back_and_goes_with_the_last_service() -> None:
    with brought_up(Rig()) as rig:
        rig.declare("node.yaml", NODE, OTHER, WEB, ENDS)
        rig.declare("bgp.yaml", configuration(loadBalancing="Consistent"))
        rig.start_agent()

        def device() -> str:
            return rig.node.run(["ip", "-o", "link", "show", "l3nvx0"], check=False).stdout

        def slots(name: str = "owners") -> int:
            command = ["nft", "list", "map", "ip", "l3net", name]
            return rig.node.run(command, check=False).stdout.count(VIP)

        def in_force() -> bool:
            return bool(device()) and slots() > 1000 and slots() + slots("here") == 4096

        rig.until(in_force, "device and slots")
        assert rig.status()["consistent"] == {"servers": 1, "slots": 4096, "short": 0}
        index = device().partition(":")[0]
        rig.node.run(["ip", "link", "delete", "l3nvx0"])
        rig.until(lambda: in_force() and device().partition(":")[0] != index, "another device")
        # By the rules that name it, a packet goes to the other node: an address of the router's here.
        rule = rig.node.run(["nft", "list", "chain", "ip", "l3net", "hand-4096"]).stdout
        assert 'device "l3nvx0"' in rule
        rig.node.run(["nft", "delete", "table", "ip", "l3net"])
        rig.until(in_force, "the table of IPv4")
        rig.declare("bgp.yaml", configuration())
        rig.until(lambda: not device() and not slots("spread"), "nothing of it")
        assert not [each for each in rig.status()["problems"] if "envelope" in each or "firewall" in each]
