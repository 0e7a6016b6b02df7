"""Pools for the pods of some namespaces, as the plugin answers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from l3net.cni.setup import NodeNetwork
from l3net.ipam.reserved import ReservedPool

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

OPEN = ("10.244.1.0/24", "fd00:10:244:1::/120")
TENANT = "10.20.0.0/29"  # five pods


def know(host: Host, *tenant: str) -> None:
    """The server of a node with these blocks of the tenant's pool."""
    assert host.server is not None
    pool = ReservedPool("tenant", 4, tuple(map(ip_network, tenant)), frozenset({"red"}))
    blocks = tuple(map(ip_network, OPEN))
    host.server.update(NodeNetwork(blocks, 1500, pools=(pool,), namespaces=frozenset({"red", "blue"})))


def pod_args(namespace: str, name: str = "p") -> dict[str, str]:
    return {"CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"}


def addresses(result: dict[str, Any]) -> list[str]:
    return [each["address"].partition("/")[0] for each in result["ips"]]


@pytest.fixture
def tenant_host(bare_host: Host) -> Host:
    bare_host.start((*OPEN, TENANT), cool_down=0)
    know(bare_host, TENANT)
    return bare_host


def test_addresses_are_of_the_namespaces_pool(tenant_host: Host, ping: Any) -> None:
    host, red, blue = tenant_host, tenant_host.pod(), tenant_host.pod()
    mine = addresses(host.add("c1", red, **pod_args("red")))
    others = addresses(host.add("c2", blue, **pod_args("blue")))
    nobodys = addresses(host.add("c3"))
    assert ip_address(mine[0]) in ip_network(TENANT)
    assert ip_address(mine[1]) in ip_network(OPEN[1]), "IPv6 has no pool of its own"
    for found in (others, nobodys):
        assert ip_address(found[0]) in ip_network(OPEN[0])
    assert ping(red, others[0]) and ping(blue, mine[0])
    result = host.add("c4", red, ifname="eth1", **pod_args("red"))
    conf = {**host.conf, "prevResult": result}
    assert host.cni("CHECK", "c4", red, ifname="eth1", conf=conf, **pod_args("red")).code == 0
    know(host)  # what is attached stays valid without the pool's block
    assert host.cni("CHECK", "c4", red, ifname="eth1", conf=conf, **pod_args("red")).code == 0
    assert host.cni("DEL", "c4", red, ifname="eth1", **pod_args("red")).code == 0


def test_a_full_pool_does_not_spill_over(tenant_host: Host) -> None:
    for number in range(5):
        tenant_host.add(f"c{number}", **pod_args("red"))
    outcome = tenant_host.cni("ADD", "c9", tenant_host.pod(), **pod_args("red"))
    assert outcome.code == 1 and TENANT in outcome.json["msg"]
    assert tenant_host.add("c10", **pod_args("blue"))


def test_without_a_block_the_runtime_is_to_try_again(tenant_host: Host) -> None:
    host, asked = tenant_host, list[str]()
    know(host)
    assert host.server is not None
    host.server.on_missing = asked.append
    pod = host.pod()
    outcome = host.cni("ADD", "c1", pod, **pod_args("red"))
    assert outcome.json["code"] == 11 and "tenant" in outcome.json["msg"]
    assert asked == ["tenant"] and host.leases() == 0
    assert host.add("c2", **pod_args("blue")), "others go on"
    assert asked == ["tenant"]
    know(host, TENANT)
    assert ip_address(addresses(host.add("c1", pod, **pod_args("red")))[0]) in ip_network(TENANT)


def test_a_namespace_nobody_has_heard_of_waits_too(tenant_host: Host) -> None:
    outcome = tenant_host.cni("ADD", "c1", tenant_host.pod(), **pod_args("new"))
    assert outcome.json["code"] == 11 and "namespace new" in outcome.json["msg"]
