"""A whole agent on a simulated node: blocks, the bridge, what the CNI server is told, services."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from scene import BLOCKS, CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import configuration, document, endpoints, node, service
from simloop import simulate

from l3net.agent.servicing import Servicing
from l3net.cni.setup import NodeNetwork
from l3net.errors import KernelError
from l3net.naming import METRIC_BLACKHOLE
from l3net.ports import GuardSeen, NoticesLost, TableSeen

NEW = ("10.244.55.0/24", "fd00:244:55::/120")
DNS = service("dns", "10.96.0.10", ports=({"name": "dns", "port": 53, "protocol": "UDP"},))


def dns(port: int) -> dict[str, object]:
    found = endpoints("dns", "10.244.1.9", port=port, protocol="UDP")
    return {**found, "ports": [{"name": "dns", "port": port, "protocol": "UDP"}]}


def gateways(scene: Scene) -> set[str]:
    assert scene.kernel.bridge is not None
    return {f"{address}/{length}" for address, length in scene.kernel.bridge.gateways}


OLD_GATEWAYS = {"10.244.1.1/24", "fd00:244:1::1/120"}
NEW_GATEWAYS = {"10.244.55.1/24", "fd00:244:55::1/120"}


def test_a_node_port_comes_changes_and_goes() -> None:
    """By elements alone."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        whole = scene.firewall.replaced
        port = {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}
        scene.datastore.apply(service("dns", "10.96.0.10", type="NodePort", ports=(port,)), dns(5353))
        await asyncio.sleep(1)
        held = scene.firewall.table
        assert held.sets["services4-node"] == {"17 . 30053 : goto lb4-1-node"}
        assert held.sets["backends4-node"] == {"17 . 30053 . 0 : 10.244.1.9 . 5353"}
        assert held.sets["ports4-udp"] == {"30053"}
        scene.datastore.apply(dns(5354))
        await asyncio.sleep(1)
        assert scene.firewall.table.sets["backends4-node"] == {"17 . 30053 . 0 : 10.244.1.9 . 5354"}
        scene.datastore.apply(DNS)  # a ClusterIP alone
        await asyncio.sleep(1)
        for name in ("services4-node", "backends4-node", "ports4-udp"):
            assert scene.firewall.table.sets[name] == set()
        assert scene.firewall.replaced == whole
        assert scene.problems() == []

    simulate(scenario())


def test_the_mtu_follows_the_uplink_both_ways() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        for mtu in (1280, 1500, 1400):
            scene.kernel.set_link("up0", mtu=mtu)
            await asyncio.sleep(0.2)
            assert scene.kernel.bridge is not None and scene.kernel.bridge.mtu == mtu
            assert scene.pods.network is not None and scene.pods.network.mtu == mtu

    simulate(scenario())


def test_a_lost_block_stays_while_pods_run_in_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.pods.leased = {ip_address("10.244.1.7"), ip_address("fd00:244:1::7")}
        scene.datastore.apply(node("n1", *NEW))
        await asyncio.sleep(1)
        assert gateways(scene) == OLD_GATEWAYS | NEW_GATEWAYS
        assert scene.blocks_heard() == {*BLOCKS, *NEW}
        network = scene.pods.network
        assert network is not None and {str(each) for each in network.retained} == set(BLOCKS)
        assert {str(each) for each in network.blocks} == set(NEW)
        assert {row["block"] for row in scene.status()["pods"]["retained"]} == set(BLOCKS)
        assert sum("is no longer this node's" in each for each in scene.problems()) == 2
        await scene.kill()
        scene.start()
        await asyncio.sleep(1)
        assert gateways(scene) == OLD_GATEWAYS | NEW_GATEWAYS
        scene.pods.leased.clear()
        await asyncio.sleep(31)
        assert gateways(scene) == NEW_GATEWAYS and scene.blocks_heard() == set(NEW)
        assert (ip_network(BLOCKS[0]), METRIC_BLACKHOLE) not in scene.kernel.ours
        assert not scene.problems()

    simulate(scenario())


def test_a_block_stays_that_is_lost_before_its_route_is_in_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod may have its address as soon as the CNI server knows of the block; the first table takes a while,
    and routes come after it."""
    apply = Servicing.apply

    async def slowly(*of: Any, **how: Any) -> None:
        await asyncio.sleep(0.1)
        await apply(*of, **how)

    monkeypatch.setattr(Servicing, "apply", slowly)

    async def scenario() -> None:
        scene = Scene()
        update = scene.pods.update

        def pod_and_loss(network: NodeNetwork) -> None:
            update(network)
            if not scene.pods.leased:
                assert not [key for key in scene.kernel.ours if key[1] == METRIC_BLACKHOLE]
                scene.pods.leased = {ip_address("10.244.1.7"), ip_address("fd00:244:1::7")}
                scene.datastore.apply(node("n1", *NEW))

        scene.pods.update = pod_and_loss  # type: ignore[method-assign]
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, seconds=3.0)
        assert gateways(scene) == OLD_GATEWAYS | NEW_GATEWAYS

    simulate(scenario())


def test_a_block_without_pods_goes_at_once() -> None:
    """The control."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.datastore.apply(node("n1", *NEW))
        await asyncio.sleep(1)
        assert gateways(scene) == NEW_GATEWAYS and not scene.problems()

    simulate(scenario())


def test_a_lost_block_that_another_node_has_is_not_announced() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.pods.leased = {ip_address("10.244.1.7")}
        scene.datastore.apply(node("n1", *NEW), node("n2", *BLOCKS, addresses=("10.0.0.3",)))
        await asyncio.sleep(1)
        assert gateways(scene) == OLD_GATEWAYS - {"fd00:244:1::1/120"} | NEW_GATEWAYS
        assert scene.blocks_heard() == set(NEW)
        assert any("node n2's by now" in each for each in scene.problems())

    simulate(scenario())


def test_the_gateway_of_a_lost_block_is_no_pods_address() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.begun(node("n1", "10.244.5.0/29"), CONFIGURATION, TOR4, TOR6)
        scene.pods.leased = {ip_address("10.244.5.2")}
        scene.datastore.apply(node("n1", "10.244.4.248/29", "10.244.5.0/28"))
        await asyncio.sleep(1)
        assert scene.pods.network is not None
        assert set(map(str, scene.pods.network.reserved)) == {"10.244.5.1"}

    simulate(scenario())


def test_a_pod_waits_for_its_pool_and_gets_of_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        selector = {"matchLabels": {"tenant": "red"}}
        pools = [
            document("IPPool", "tenant", spec={"cidr": "10.20.0.0/16", "namespaceSelector": selector}),
            document("IPPool", "all", spec={"cidr": "10.244.0.0/16"}),
        ]
        red = document("Namespace", "red", version="v1", metadata={"labels": {"tenant": "red"}})
        await scene.ready(*pools, red)
        network = scene.pods.network
        assert network is not None and [(each.name, each.blocks) for each in network.pools] == [
            ("tenant", ())
        ]
        scene.pods.on_missing("tenant")
        await asyncio.sleep(0.1)
        assert scene.agent.podnet.missing_pools == {"tenant"} and scene.agent.podnet.pool_missing.is_set()
        scene.datastore.apply(node("n1", *BLOCKS, "10.20.7.0/24"))  # as the controller adds it
        await asyncio.sleep(1)
        network = scene.pods.network
        assert network is not None
        assert [str(block) for each in network.pools for block in each.blocks] == ["10.20.7.0/24"]
        assert "10.20.7.1/24" in gateways(scene)

    simulate(scenario())


def test_no_pod_may_publish_a_port_of_the_nodes_own() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.datastore.apply(configuration(listenPort=1790))
        await asyncio.sleep(1)
        assert scene.pods.network is not None
        own = scene.pods.network.own_ports
        assert {("tcp", 179), ("tcp", 1790), ("udp", 3784), ("udp", 6108)} <= own
        assert {("tcp", 10249), ("tcp", 10256)} <= own, "by which a kube-proxy is known on 127.0.0.1"

    simulate(scenario())


def test_a_changed_endpoint_changes_elements_and_forgets_flows() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(DNS, dns(5353))
        assert "10.96.0.10/32" in scene.heard(scene.tor4)
        replaced = scene.firewall.replaced
        scene.firewall.forgotten.clear()
        for port in (5354, 5355):
            scene.datastore.apply(dns(port))
            await asyncio.sleep(0.2)
            assert f"10.244.1.9 . {port}" in scene.firewall.amended[-1]
        assert scene.firewall.replaced == replaced
        assert {each.port for each in scene.firewall.forgotten} == {53}
        scene.datastore.delete(dns(5355))
        await asyncio.sleep(0.2)
        assert "10.96.0.10/32" in scene.heard(scene.tor4) or scene.status()["services"]
        scene.datastore.delete(DNS)
        await asyncio.sleep(0.2)
        assert "10.96.0.10/32" not in scene.heard(scene.tor4)
        assert "delete element" in scene.firewall.amended[-1]

    simulate(scenario())


def test_a_peer_hears_of_an_end_before_the_node_stops_serving() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(DNS, dns(5353))
        seen: list[bool] = []
        amend = scene.firewall.amend

        def watched(transaction: str) -> None:
            seen.append("withdraw" in scene.speaker.commands[-1])
            amend(transaction)

        scene.firewall.amend = watched  # type: ignore[method-assign]
        scene.datastore.delete(DNS)
        await asyncio.sleep(0.2)
        assert seen == [True]

    simulate(scenario())


def test_what_begins_while_the_table_is_gone_is_translated_afterwards() -> None:
    """Connections that nothing translated are forgotten once the table is back, so that they are asked anew;
    a table of others' that changes is no reason."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(service("web", "10.96.0.20"), endpoints("web", "10.244.1.9"), DNS, dns(5353))
        scene.firewall.forgotten.clear()
        replaced = scene.firewall.replaced
        scene.kernel.notice(TableSeen(8))  # a transaction of ours, or one that left the table as it was
        await asyncio.sleep(1)
        assert (scene.firewall.replaced, scene.firewall.forgotten) == (replaced, [])
        scene.firewall.flush()
        await asyncio.sleep(1)
        assert scene.firewall.replaced == replaced + 1
        found = {(each.protocol, each.port, each.untouched) for each in scene.firewall.forgotten}
        assert found == {(6, 80, True), (17, 53, False)}

    simulate(scenario())


def test_the_younger_of_two_rivals_is_named() -> None:
    async def scenario() -> None:
        scene = Scene()
        old = service("z-shop", "10.96.0.20", externalIPs=["198.51.100.7"])
        new = service("a-evil", "10.96.0.66", externalIPs=["198.51.100.7"])
        old["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z"
        new["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        opened = configuration(advertise={"externalIPs": {"enabled": True, "cidrs": ["198.51.100.0/24"]}})
        await scene.ready(
            opened, old, new, endpoints("z-shop", "10.244.1.9"), endpoints("a-evil", "10.244.1.8")
        )
        rows = scene.status()["services"]
        found = {row["service"]: row["reason"] for row in rows if row["address"] == "198.51.100.7"}
        assert found == {"default/a-evil": "conflictingPort", "default/z-shop": "advertise"}
        assert any("a-evil" in each for each in scene.problems())

    simulate(scenario())


def test_a_table_that_nft_refuses_is_tried_again_and_what_the_peers_say_is_followed() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(DNS, dns(5353))
        scene.firewall.failing = KernelError("nft cannot change table inet l3net (No buffer space)", 105)
        scene.datastore.apply(dns(5354))
        await asyncio.sleep(0.5)
        assert any("No buffer space" in each for each in scene.problems())
        scene.tor4.route("203.0.113.0/24")
        scene.speaker.say(scene.tor4, ip_network("203.0.113.0/24"))
        await asyncio.sleep(0.5)
        assert "203.0.113.0/24" in scene.learned()
        scene.firewall.failing = None
        await asyncio.sleep(61)
        assert not scene.problems() and "10.244.1.9 . 5354" in scene.firewall.text

    simulate(scenario())


def test_a_table_that_somebody_lets_go_of_is_ours_again_at_once() -> None:
    """Its owner (flags owner) ends, and the kernel tells of a change: not at the end of a grown wait."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(DNS, dns(5353))
        scene.firewall.failing = KernelError("nft cannot replace table inet l3net (not permitted)", 1)
        scene.firewall.flush()
        await asyncio.sleep(40)
        assert any("not permitted" in each for each in scene.problems())
        scene.firewall.failing = None
        scene.kernel.notice(TableSeen(9))
        await asyncio.sleep(0.5)
        assert not scene.problems() and "5353" in scene.firewall.text

    simulate(scenario())


def test_a_guard_that_somebody_changed_is_looked_at_at_once() -> None:
    """By the CNI server, whose it is; likewise where it is not known what was changed."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(DNS, dns(5353))
        before = scene.pods.guard_looks
        scene.kernel.notice(GuardSeen())
        assert scene.pods.guard_looks == before + 1
        scene.kernel.notice(NoticesLost())
        assert scene.pods.guard_looks == before + 2
        scene.kernel.notice(TableSeen(9))
        assert scene.pods.guard_looks == before + 2

    simulate(scenario())


def test_a_port_for_icmp_errors_that_somebody_has_is_tried_again() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.errors.taken = True
        await scene.ready(DNS, dns(5353))
        assert "port in use" in scene.problems() and "6108" not in scene.firewall.text
        scene.errors.taken = False
        scene.firewall.flush()  # makes it look
        await asyncio.sleep(0.5)
        assert not scene.problems() and "6108" in scene.firewall.text

    simulate(scenario())


def test_the_nodes_tell_one_another_of_icmp_errors() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(node("n2", "10.244.2.0/24", addresses=("10.0.0.3",)))
        assert sorted(str(each[0]) for each in scene.errors.nodes) == ["10.0.0.2", "10.0.0.3"]
        assert NODE["metadata"]["name"] == "n1"

    simulate(scenario())
