"""The table as the kernel holds it: replaced as a whole, looked after, removed; and the plan behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from firewall_net import inside
from pyroute2 import netns

from l3net.errors import ConfigError, KernelError
from l3net.firewall.facts import FirewallPlan, plan
from l3net.firewall.ruleset import ruleset
from l3net.model import (
    Backend,
    BgpConfiguration,
    BgpPeer,
    ClusterState,
    IpPool,
    Namespace,
    Node,
    PoolUse,
    VirtualServer,
)
from l3net.shell.kernel.nft import NftTable

BACKENDS = tuple(Backend(ip_address(f"10.1.1.{n}"), 8080) for n in (2, 3))
SERVERS = frozenset(
    VirtualServer(ip_address(f"10.96.0.{n}"), "tcp", 80, BACKENDS, BACKENDS[: n % 3]) for n in range(1, 9)
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[str]:
    name = f"nft-{tmp_path.name[-20:]}-{id(tmp_path):x}"
    netns.create(name)
    try:
        yield name
    finally:
        netns.remove(name)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("add table inet other", True),
        ("delete table inet l3net", False),
        ("flush chain inet l3net prerouting-nat", False),
        ("delete element inet l3net vips4 { 10.96.0.1 }", False),
        ("add rule inet l3net external counter accept", False),
    ],
)
def test_intact_says_what_the_kernel_holds(node: str, command: str, kept: bool) -> None:
    with inside(node):
        table, other = NftTable(), NftTable()
        assert not table.intact()
        text = ruleset(FirewallPlan(SERVERS))
        table.apply(text)
        assert table.intact()
        other._run(command + "\n")
        assert table.intact() is kept
        table.apply(text)
        assert table.intact()
        table.remove()
        table.remove()  # already gone is success
        assert not table.intact()


@pytest.mark.netns
def test_a_bad_text_changes_nothing(node: str) -> None:
    with inside(node):
        table = NftTable()
        table.apply(ruleset(FirewallPlan(SERVERS)))
        before = table._listing()
        broken = ruleset(FirewallPlan()).replace("goto internal", "goto nowhere")
        with pytest.raises(KernelError, match="nft cannot replace table inet l3net"):
            table.apply(broken)
        assert table._listing() == before


def test_without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="install the package nftables"):
        NftTable()
    with pytest.raises(KernelError, match="/none/nft cannot be run: ENOENT"):
        NftTable("/none/nft").remove()


def test_the_text_depends_on_the_plan_alone() -> None:
    one = FirewallPlan(servers=frozenset(sorted(SERVERS, key=repr)))
    other = FirewallPlan(servers=frozenset(sorted(SERVERS, key=repr, reverse=True)))
    assert ruleset(one) == ruleset(other)
    assert ruleset(one) != ruleset(replace(one, bridge="other0"))


def test_the_plan_of_a_node() -> None:
    state = ClusterState(
        nodes={
            "n1": Node("n1", (ip_address("192.0.2.1"),), (ip_network("10.244.1.0/24"),)),
            "n2": Node("n2", (ip_address("192.0.2.2"),), (ip_network("10.250.0.0/24"),)),
        },
        pools={
            "a": IpPool("a", ip_network("10.244.0.0/16"), 24, nat_outgoing=True),
            "b": IpPool("b", ip_network("fd00:244::/64"), 120, nat_outgoing=True, disabled=True),
            "c": IpPool(
                "c",
                ip_network("203.0.113.0/24"),
                24,
                nat_outgoing=True,
                allowed_uses=frozenset({PoolUse.LOAD_BALANCER}),
            ),
        },
        configuration=BgpConfiguration(listen_port=1179, service_cidrs=(ip_network("10.96.0.0/16"),)),
    )
    found = plan(state, "n1", SERVERS)
    assert found.servers == SERVERS
    assert found.blocks == {ip_network("10.244.1.0/24")}
    assert found.nat_sources == {ip_network("10.244.0.0/16"), ip_network("fd00:244::/64")}
    assert {str(prefix) for prefix in found.inside} == {
        "10.244.0.0/16",
        "10.250.0.0/24",
        "10.96.0.0/16",
        "192.0.2.1/32",
        "192.0.2.2/32",
        "203.0.113.0/24",
        "fd00:244::/64",
    }
    assert found.bgp_ports == {179, 1179}
    assert found.pod_ranges == {*found.nat_sources, ip_network("10.250.0.0/24")}
    state.peers["router"] = BgpPeer("router", ip_address("10.244.255.1"))  # in a pool: its blocks alone
    assert ip_network("10.244.0.0/16") not in plan(state, "n1", ()).pod_ranges
    assert ip_network("10.244.1.0/24") in plan(state, "n1", ()).pod_ranges
    assert found.routers == frozenset()
    state.peers["local"] = BgpPeer("local", ip_address("fe80::1"), source_interface="up0")
    state.peers["gateways"] = BgpPeer("gateways", default_gateway=True, port=1179)
    assert plan(state, "n1", ()).routers == {(ip_address("10.244.255.1"), 179), (None, 1179)}
    assert found.allowed_sources == frozenset()
    state.pools["a"] = replace(state.pools["a"], allowed_sources=(ip_network("198.51.100.0/24"),))
    state.namespaces["shop"] = Namespace("shop", allowed_sources=(ip_network("198.51.100.0/25"),))
    assert plan(state, "n1", ()).allowed_sources == {ip_network("198.51.100.0/24")}
    assert plan(state, "absent", ()).blocks == frozenset()
