"""A whole agent on a simulated node: routes both ways, next hops, aggregates, and what the kernel refuses."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from scene import BLOCKS, CONFIGURATION, FOUR, LEARNED, NODE, SIX, TOR4, TOR6, Scene
from sim_node import configuration, endpoints, node, peer, service
from sim_speaker import SimRouter
from simloop import simulate

from l3net.agent.loop import LEARNED_GRACE
from l3net.errors import KernelError
from l3net.model import RouteKind
from l3net.naming import METRIC_AGGREGATE, METRIC_BGP, METRIC_BLACKHOLE, METRIC_SERVICES
from l3net.ports import ForwardingOff, LinkSeen

BLOCK_KEYS = {(ip_network(block), METRIC_BLACKHOLE) for block in BLOCKS}
BGP_KEYS = {(ip_network(prefix), METRIC_BGP) for prefix in LEARNED}


def hop(scene: Scene, prefix: str, metric: int = METRIC_BGP) -> set[tuple[str, str]]:
    route = scene.kernel.ours.get((ip_network(prefix), metric))
    return {(str(each.gateway), each.interface) for each in route.next_hops} if route is not None else set()


def test_routes_pass_both_ways_and_what_someone_deletes_is_back() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        assert scene.kernel.ours.keys() == BLOCK_KEYS | BGP_KEYS
        assert scene.kernel.bridge is not None and len(scene.kernel.bridge.gateways) == 2
        for told in (True, False):
            for keys in (BGP_KEYS, BLOCK_KEYS, BLOCK_KEYS | BGP_KEYS):
                scene.kernel.delete_ours(*keys, told=told)
                await asyncio.sleep(0.1 if told else 31)  # what nobody told of is found by a look for drift
                assert scene.kernel.ours.keys() == BLOCK_KEYS | BGP_KEYS
        scene.kernel.bridge = None
        scene.lose_notices()
        await asyncio.sleep(0.1)
        assert scene.kernel.bridge is not None and scene.pods.reattached
        replaced = scene.firewall.replaced
        scene.firewall.flush()
        await asyncio.sleep(0.1)
        assert scene.firewall.replaced == replaced + 1 and "prerouting-nat" in scene.firewall.whole

    simulate(scenario())


@pytest.mark.parametrize("stop", ["killed", "terminated"])
def test_an_agent_that_is_restarted_changes_nothing(stop: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=130)
        before, ours = scene.sessions(), dict(scene.kernel.ours)
        for _ in range(3):
            await (scene.kill() if stop == "killed" else scene.terminate())
            scene.kernel.batches.clear()
            for router in scene.routers:
                router.heard.setdefault(ip_network("198.51.100.0/24"), "a change would take this away")
            scene.start()
            await asyncio.sleep(200)
            assert scene.kernel.ours == ours
            assert not [each for batch in scene.kernel.batches for each in (*batch.put, *batch.delete)]
        assert scene.sessions() == before
        assert all("198.51.100.0/24" in scene.heard(router) for router in scene.routers)
        assert not scene.problems()
        # The control: a change of the declared state is a change of routes.
        scene.datastore.apply(node("n1", BLOCKS[0]))
        await asyncio.sleep(1)
        assert scene.blocks_heard() == {BLOCKS[0]} and scene.kernel.ours != ours

    simulate(scenario())


def test_a_path_that_is_no_use_tells_nothing_of_who_has_not_spoken_yet() -> None:
    """A router passes a node's own routes back, with its AS in the path, before the one that they are learned
    of is there again. The control: once all have had their time, the route goes."""

    async def scenario() -> None:
        scene = Scene()
        other, prefix = SimRouter(ip_address("10.0.0.3")), ip_network("198.51.100.0/24")
        scene.speaker.routers[other.address] = other
        other.route(str(prefix))
        scene.tor4.route(str(prefix), None, 64512)
        scene.datastore.apply(peer("other", "10.0.0.3"))
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6)
        assert hop(scene, str(prefix)) == {("10.0.0.3", "up0")}
        await scene.kill()
        scene.speaker.drop(other, back=False)
        scene.start()
        await asyncio.sleep(5)
        assert hop(scene, str(prefix)) == {("10.0.0.3", "up0")}
        await asyncio.sleep(LEARNED_GRACE + 31)
        assert not hop(scene, str(prefix)) and scene.learned() == LEARNED

    simulate(scenario())


def test_routes_that_a_link_took_along_are_back_without_any_declared_state() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=30)
        await scene.kill()
        assert scene.memory.routes.keys() == BLOCK_KEYS | BGP_KEYS, "written down"

        def flap() -> None:
            scene.kernel.set_link("up0", up=False)
            assert not scene.learned(), "the link takes them along"
            scene.kernel.set_link("up0", up=True)

        flap()
        scene.datastore.away = True
        scene.start()
        await asyncio.sleep(1)
        assert scene.learned() == LEARNED, "of the last agent"
        flap()
        await asyncio.sleep(1)
        assert scene.learned() == LEARNED
        scene.datastore.away = False
        await asyncio.sleep(200)
        assert scene.learned() == LEARNED and not scene.problems()

    simulate(scenario())


def test_with_its_link_a_peers_routes_go_at_once_and_nowhere_else() -> None:
    async def scenario() -> None:
        links = {"up0": ("10.0.0.2/24", "fd00::2/64"), "up1": ("10.9.0.2/24", "fd09::2/64")}
        scene = Scene(links=links)
        await scene.ready()
        scene.kernel.other_route("0.0.0.0/0", "up1", "10.9.0.1")
        scene.kernel.other_route("::/0", "up1", "fd09::1")
        await asyncio.sleep(1)
        assert hop(scene, FOUR) == {("10.0.0.1", "up0")}
        scene.kernel.batches.clear()
        scene.kernel.set_link("up0", up=False)
        await asyncio.sleep(0.2)
        assert not scene.learned()
        assert all("up1" not in str(route) for batch in scene.kernel.batches for route in batch.put.values())
        assert [row["accepted"] for row in scene.status()["peers"]] == [0, 0]
        scene.kernel.set_link("up0", up=True)
        await asyncio.sleep(0.2)
        assert scene.learned() == LEARNED

    simulate(scenario())


def test_over_several_hops_the_way_is_looked_up() -> None:
    """The control: what a peer several hops away announces moves to whatever leads there."""

    async def scenario() -> None:
        links = {"up0": ("10.0.0.2/24", "fd00::2/64"), "up1": ("10.9.0.2/24", "fd09::2/64")}
        scene = Scene(links=links)
        several = [peer("tor4", "10.0.0.1", multihop=2), peer("tor6", "fd00::1", multihop=2)]
        await scene.begun(NODE, CONFIGURATION, *several)
        assert scene.learned() == LEARNED
        scene.kernel.other_route("10.0.0.1/32", "up1", "10.9.0.1")
        scene.kernel.other_route("fd00::1/128", "up1", "fd09::1")
        await asyncio.sleep(0.2)
        assert (hop(scene, FOUR), hop(scene, SIX)) == ({("10.9.0.1", "up1")}, {("fd09::1", "up1")})
        scene.datastore.apply(TOR4, TOR6)
        await asyncio.sleep(2)
        assert not scene.learned(), "where the peer is said to be on a link"

    simulate(scenario())


def test_a_third_partys_next_hop_is_on_the_link_too() -> None:
    async def scenario() -> None:
        scene = Scene()
        third = [
            peer("tor4", "10.0.0.1", thirdPartyNextHops=True),
            peer("tor6", "fd00::1", thirdPartyNextHops=True),
        ]
        scene.tor4.route(FOUR, "10.0.0.77")
        scene.tor6.route(SIX, "fd00::77")
        await scene.begun(NODE, CONFIGURATION, *third)
        assert hop(scene, FOUR) == {("10.0.0.77", "up0")}
        for four, six in (("10.9.0.77", "fd09::77"), ("198.51.100.7", "2001:db8:9::7")):
            scene.tor4.route(FOUR, four)
            scene.tor6.route(SIX, six)
            scene.speaker.say(scene.tor4, ip_network(FOUR))
            scene.speaker.say(scene.tor6, ip_network(SIX))
            await asyncio.sleep(0.2)
            assert not scene.learned()
            assert [row["refused"] for row in scene.status()["peers"]] == [{"unresolved": 1}] * 2

    simulate(scenario())


def test_what_is_to_be_dropped_needs_no_way() -> None:
    """RFC 7999, with a next hop as RFC 5635 has it: one that leads nowhere; of a peer that may ask for it."""

    async def scenario() -> None:
        scene = Scene()
        spec = {"thirdPartyNextHops": True, "allowBlackhole": True}
        scene.tor4.route(FOUR, "198.51.100.7")
        scene.tor4.communities = [[65535, 666]]
        await scene.begun(NODE, CONFIGURATION, peer("tor4", "10.0.0.1", **spec), TOR6)
        route = scene.kernel.ours[ip_network(FOUR), METRIC_BGP]
        assert route.kind is RouteKind.BLACKHOLE and not route.next_hops
        scene.datastore.apply(peer("tor4", "10.0.0.1", thirdPartyNextHops=True))
        await asyncio.sleep(1)
        assert scene.learned() == {SIX}, "the control"
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_a_peer_that_is_on_no_link_is_named() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.kernel.other_route("0.0.0.0/0", "up0", "10.0.0.1")
        await scene.ready(peer("far", "10.98.0.2"))
        assert any("10.98.0.2 is on no link of this node" in each for each in scene.problems())
        scene.datastore.apply(peer("far", "10.98.0.2", multihop=2))
        await asyncio.sleep(1)
        assert not [each for each in scene.problems() if "on no link" in each]

    simulate(scenario())


def test_what_the_kernel_refuses_is_named_and_set_aside() -> None:
    async def scenario() -> None:
        scene = Scene()
        refused = [0]

        def refuse(route: Any) -> KernelError | None:
            if str(route.prefix) != FOUR:
                return None
            refused[0] += 1
            return KernelError(f"put route {route.prefix}", 22)

        scene.kernel.refuses = refuse
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, seconds=10)
        assert scene.learned() == {SIX}
        assert [each for each in scene.problems() if each.startswith("routes: ") and FOUR in each]
        first = refused[0]
        await asyncio.sleep(600)
        assert refused[0] - first < 20, "later each time"
        scene.kernel.refuses = lambda _route: None
        await asyncio.sleep(61)
        assert scene.learned() == LEARNED and not scene.problems()

    simulate(scenario())


@pytest.mark.parametrize(
    "networks", [("192.168.0.0/16", "fd00:192::/32"), ("10.244.0.0/16", "fd00:244::/32")]
)
def test_an_aggregate_stands_on_a_blackhole_and_goes_with_it(networks: tuple[str, ...]) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.tor4.route(networks[0])
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6)
        scene.datastore.apply(configuration(advertise={"networks": list(networks)}))
        await asyncio.sleep(1)
        for network in networks:
            route = scene.kernel.ours[ip_network(network), METRIC_AGGREGATE]
            assert route.kind is RouteKind.BLACKHOLE
        assert networks[0] in scene.heard(scene.tor4) and networks[1] in scene.heard(scene.tor6)
        assert scene.peers()["10.0.0.1"]["refused"] == {"ownNetwork": 1}
        scene.datastore.apply(CONFIGURATION)
        await asyncio.sleep(1)
        assert not [key for key in scene.kernel.ours if key[1] == METRIC_AGGREGATE]
        assert networks[0] not in scene.heard(scene.tor4)
        assert scene.kernel.ours.keys() >= BLOCK_KEYS

    simulate(scenario())


def test_other_nodes_pods_that_are_cut_off_are_named() -> None:
    async def scenario() -> None:
        scene = Scene()
        other = node("n2", "10.244.55.0/24", addresses=("10.0.0.3",))
        await scene.ready(other)
        scene.datastore.apply(configuration(advertise={"networks": ["10.244.0.0/16"]}))
        await asyncio.sleep(1)
        assert any("10.244.55.0/24 of node n2" in each for each in scene.problems())
        scene.kernel.other_route("10.244.55.0/24", "up0", "10.0.0.3")
        await asyncio.sleep(0.2)
        assert not scene.problems()
        scene.kernel.delete_other("10.244.55.0/24")
        await asyncio.sleep(0.2)
        assert scene.problems()

    simulate(scenario())


def test_the_hosts_own_processes_have_a_way_to_services() -> None:
    """Without a default route, and with one: what they send is routed before it is translated."""

    async def scenario() -> None:
        scene = Scene()
        ranges = {"serviceCIDRs": ["10.96.0.0/16", "fd00:96::/112"]}
        await scene.ready(
            configuration(**ranges), service("web", "10.96.0.10"), endpoints("web", "10.244.1.9")
        )
        for network in ranges["serviceCIDRs"]:
            assert hop(scene, network, METRIC_SERVICES) == {("None", "l3net0")}
        rows = {row["prefix"]: row["nextHops"] for row in _routes(scene)}
        assert rows["10.96.0.0/16"] == ["dev l3net0"]
        scene.kernel.other_route("0.0.0.0/0", "up0", "10.0.0.1")
        await asyncio.sleep(0.2)
        assert not hop(scene, "10.96.0.0/16", METRIC_SERVICES), "a default route leads there as well"
        assert hop(scene, "fd00:96::/112", METRIC_SERVICES)

    simulate(scenario())


def _routes(scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "prefix": str(route.prefix),
            "nextHops": [f"dev {each.interface}" for each in route.next_hops],
        }
        for route in scene.kernel.ours.values()
    ]


def test_somebody_elses_route_in_our_place_is_named_and_stays() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        key = (ip_network(FOUR), METRIC_BGP)
        del scene.kernel.ours[key]
        scene.kernel.other_route(FOUR, "up0", "10.0.0.77", metric=METRIC_BGP)
        await asyncio.sleep(0.2)
        assert any("somebody else's" in each for each in scene.problems())
        scene.tor4.route(FOUR, None, 65009)  # what the peers say meanwhile
        scene.speaker.say(scene.tor4, ip_network(FOUR))
        await asyncio.sleep(0.2)
        assert scene.learned() == {SIX}
        scene.kernel.delete_other(FOUR, METRIC_BGP)
        await asyncio.sleep(0.2)
        assert scene.learned() == LEARNED and not scene.problems()

    simulate(scenario())


@pytest.mark.parametrize("part", ["read", "bridge", "underlay"])
def test_a_part_of_the_kernel_that_fails_is_tried_again_and_stops_no_other(part: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.kernel.failing[part] = KernelError(f"{part} is broken", 5)
        scene.kernel.set_link("up0", mtu=1400)
        await asyncio.sleep(1)
        assert any(f"{part} is broken" in each for each in scene.problems())
        scene.tor4.route("203.0.113.0/24")
        scene.speaker.say(scene.tor4, ip_network("203.0.113.0/24"))
        await asyncio.sleep(0.2)
        assert "203.0.113.0/24" in scene.learned(), "what the peers say is followed"
        del scene.kernel.failing[part]
        await asyncio.sleep(31)
        assert not scene.problems()
        assert scene.kernel.bridge is not None and scene.kernel.bridge.mtu == 1400

    simulate(scenario())


def _flap(scene: Scene) -> None:
    scene.kernel.set_link("up0", up=False)
    scene.kernel.set_link("up0", up=True)


def test_two_runs_are_the_same() -> None:
    """What the simulation is for: nothing but what it is given decides."""

    async def scenario() -> list[str]:
        scene = Scene()
        await scene.ready()
        _flap(scene)
        scene.speaker.drop(scene.tor4)
        scene.speaker.kill()
        await asyncio.sleep(300)
        assert scene.learned() == LEARNED
        return scene.speaker.commands

    assert simulate(scenario()) == simulate(scenario())


def test_forwarding_that_somebody_turns_off_is_turned_on_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(1)
        before = scene.forwarding
        scene.kernel.notice(ForwardingOff())
        await asyncio.sleep(0.1)
        assert scene.forwarding > before

    simulate(scenario())


@pytest.mark.parametrize("last", [True, False, None])
def test_a_pods_port_that_stays_apart_is_put_back(last: bool | None) -> None:
    """One that comes or goes is apart for a moment, which is no reason to look; an address of it says
    nothing."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(1)
        before = scene.pods.reattached
        scene.kernel.notice(LinkSeen("l3v0123456789a", apart=True))
        await asyncio.sleep(0.1)
        scene.kernel.notice(LinkSeen("l3v0123456789a", apart=last))
        await asyncio.sleep(0.4)
        assert (scene.pods.reattached > before) is (last is not False)

    simulate(scenario())
