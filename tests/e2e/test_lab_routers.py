"""What the lab's routers announce as their own: their links, and no network by which a machine is managed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from small_lab import lab_of

from l3net.lab.wait import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
TOPOLOGY = {
    "routers": [
        {"name": "frr", "asNumber": 65001, "kind": "frr"},
        {"name": "bird", "asNumber": 65002, "kind": "bird"},
        {"name": "far", "asNumber": 65003, "kind": "frr"},
    ],
    "nodes": [{"name": "n1"}],
    "links": [{"between": ["frr", "far"]}, {"between": ["bird", "far"]}, {"between": ["n1", "frr"]}],
}
#: By router; of both families, as a machine may have.
MANAGED = {"frr": ("192.0.2.1/24", "2001:db8:1::1/64"), "bird": ("198.51.100.1/24", "2001:db8:2::1/64")}
#: By router, on one of its links.
BESIDE = {"frr": ("203.0.113.1/25", "2001:db8:3::1/64"), "bird": ("203.0.113.129/25", "2001:db8:4::1/64")}


def test_no_router_announces_the_network_by_which_it_is_managed(tmp_path: Path) -> None:
    with lab_of(TOPOLOGY, tmp_path, kind=None) as lab:
        for name, addresses in MANAGED.items():
            router = lab.host(name)
            router.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])
            for address in addresses:
                router.run(["ip", "address", "add", address, "dev", "eth0", "nodad"])
            for address in BESIDE[name]:
                router.run(["ip", "address", "add", address, "dev", "far", "nodad"])
            for link in ("eth0", "eth1"):
                router.run(["ip", "link", "set", link, "up"])

        def table() -> str:
            return "".join(
                lab.host("far").run(["vtysh", "-c", f"show bgp {family}"]).stdout
                for family in ("ipv4", "ipv6")
            )

        links = [str(subnet) for link in lab.topology.links[2:] for subnet in link.subnets]
        until(lambda: all(each in table() for each in links), 30, table)
        time.sleep(1.5)  # both tell their peers within a tenth
        found = table()
        assert "192.0.2.0/24" not in found, found
        assert "198.51.100.0/24" not in found, found
        assert "203.0.113." not in found, found
        assert "2001:db8:" not in found, found
