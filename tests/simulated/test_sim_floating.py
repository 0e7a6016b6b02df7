"""A whole agent on a simulated node: floating addresses, who announces and translates them, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from packets.outcomes import Delivered, Forwarded
from packets.packet import Packet, packet
from scene import NODE
from sim_floating import FLOATING, POOLS, SECOND, SHOP, Floated, floating, pod
from sim_node import document, node, service
from simloop import simulate
from test_packets_node import BOTH, N2, OUTSIDE, POD, REMOTE, TOR, short

from l3net.agent.explaining import explain_answer
from l3net.agent.floating import LINGER
from l3net.explain.facts import Way
from l3net.explain.host import UNSEEN
from l3net.model import Address, Prefix

MINE = pod("web", *POD.values())
OTHER = pod("other", *REMOTE.values(), on="n2", ready="2026-01-05T00:00:00Z", created="2026-01-05T00:00:00Z")
PUBLIC = floating("web", *FLOATING.values())
WHO = {
    "deleted": None,
    "not ready": pod("web", *POD.values(), ready=None),
    "being deleted": pod("web", *POD.values(), deleting=True),
    "finished": pod("web", *POD.values(), phase="Succeeded"),
}


async def _up(*more: dict[str, object]) -> Floated:
    scene = Floated()
    await scene.up()
    scene.datastore.apply(*POOLS, SHOP, N2, MINE, *more)
    await asyncio.sleep(1)
    return scene


def test_it_is_translated_both_ways_and_announced_from_the_pods_node() -> None:
    async def scenario() -> None:
        scene = await _up()
        for version in BOTH:  # the control
            assert not scene.announces(version)
            assert not any("at web" in each for each in scene.arriving(FLOATING[version], version))
        scene.datastore.apply(PUBLIC, OTHER)
        for tor, cidr in ((scene.tor4, "203.0.113.0/24"), (scene.tor6, "2001:db8:f::/112")):
            tor.route(cidr)
            scene.speaker.say(tor, ip_network(cidr))
        await asyncio.sleep(1)
        for version in BOTH:
            address, own, outside = FLOATING[version], POD[version], OUTSIDE[version]
            assert scene.announces(version) == {address}
            for protocol in ("tcp", "udp", "sctp"):
                arrived = scene.arriving(address, version, protocol=protocol, port=4242)
                assert arrived == {f"{outside} > {own} 4242 at web"}
            assert scene.leaving(outside, version) == {f"{address} > {outside} 443 by up0 {TOR[version]}"}
            # inside the cluster the pod keeps its own address, also to another's floating one
            assert scene.leaving(REMOTE[version], version) == {
                f"{own} > {REMOTE[version]} 443 by up0 {TOR[version]}"
            }
            assert {each.partition(" ")[0] for each in scene.leaving(SECOND[version], version)} == {own}
            # and to its own it comes back to itself, from the address that it called
            assert scene.leaving(address, version) == {f"{address} > {own} 443 at web"}
        assert not scene.problems()

    simulate(scenario())


@pytest.mark.parametrize("version", BOTH)
def test_answers_and_errors_are_translated_too(version: int) -> None:
    async def scenario() -> None:
        scene = await _up(PUBLIC)
        first = packet(OUTSIDE[version], FLOATING[version], dport=80, sport=41000)
        (there,) = scene.stack.receive(first, "up0")
        assert isinstance(there, Delivered)
        scene.stack.take(there)
        (back,) = scene.stack.from_pod(there.packet.answer())
        assert isinstance(back, Forwarded) and str(back.packet.source) == FLOATING[version]
        about: Packet = back.packet
        error = Packet(
            first.source, about.source, 1 if version == 4 else 58, icmp=3 if version == 4 else 1, about=about
        )
        (told,) = scene.stack.receive(error, "up0")
        assert isinstance(told, Delivered) and str(told.packet.destination) == POD[version]

    simulate(scenario())


@pytest.mark.parametrize("what", WHO)
def test_it_follows_the_pod_that_is_ready(what: str) -> None:
    """The oldest ready pod has it; when that fails, the standby of another node, and that one keeps it."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, OTHER)
        assert scene.announces() == {FLOATING[4]}
        after = WHO[what]
        if after is None:
            scene.datastore.delete(MINE)
        else:
            scene.datastore.apply(after)
        await asyncio.sleep(1)
        assert not scene.announces() and not scene.announces(6)
        for version in BOTH:
            assert not any("at web" in each for each in scene.arriving(FLOATING[version], version))
            assert {each.partition(" ")[0] for each in scene.leaving(OUTSIDE[version], version)} == {
                POD[version]
            }
        # It comes back, and has been ready for a shorter time than the other.
        scene.datastore.apply(pod("web", *POD.values(), ready="2026-01-06T00:00:00Z"))
        await asyncio.sleep(1)
        assert not scene.announces()
        scene.datastore.apply(pod("other", *REMOTE.values(), on="n2", ready=None))
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]} and scene.announces(6) == {FLOATING[6]}

    simulate(scenario())


def test_what_is_not_required_to_be_ready_stays_where_it_is() -> None:
    async def scenario() -> None:
        scene = await _up(floating("web", *FLOATING.values(), requireReady=False), OTHER)
        scene.datastore.apply(pod("web", *POD.values(), ready=None))
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]}

    simulate(scenario())


@pytest.mark.parametrize("heard", [True, False])
def test_it_is_withdrawn_when_the_others_announcement_is_heard(heard: bool) -> None:
    """Or soon after. Where nobody has it, at once."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, OTHER)
        scene.datastore.apply(WHO["not ready"])
        await asyncio.sleep(0.08)
        assert scene.announces() == {FLOATING[4]}, "the other node may not be as far"
        assert scene.leaving(OUTSIDE[4]) == {f"{POD[4]} > {OUTSIDE[4]} 443 by up0 {TOR[4]}"}, "translated"
        if heard:
            prefix: Prefix = ip_network(FLOATING[4])
            scene.tor4.route(str(prefix))
            scene.speaker.say(scene.tor4, prefix)
            await asyncio.sleep(0.045)
            assert not scene.announces()
        else:
            await asyncio.sleep(LINGER)
            assert not scene.announces()
        assert not scene.agent.kernel.problems

    simulate(scenario())


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_under_way_reaches_the_former_pod_as_long_as_it_is_there(gone: bool) -> None:
    """No longer than that: its address may be another's by now."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, OTHER)
        scene.datastore.apply(WHO["not ready"])
        await asyncio.sleep(LINGER + 0.08)
        assert not scene.announces(), "withdrawn"
        assert any("at web" in each for each in scene.arriving(FLOATING[4])), "and translated"
        if gone:
            scene.datastore.delete(MINE)
            await asyncio.sleep(0.04)
        else:
            await asyncio.sleep(0.3)
        assert not any("at web" in each for each in scene.arriving(FLOATING[4]))

    simulate(scenario())


def test_where_nobody_has_it_it_is_withdrawn_at_once() -> None:
    async def scenario() -> None:
        scene = await _up(PUBLIC)
        scene.datastore.delete(MINE)
        await asyncio.sleep(0.1)
        assert not scene.announces()

    simulate(scenario())


def test_connections_of_a_pod_that_is_gone_go_to_the_new_one() -> None:
    """A UDP client that goes on from the same port."""

    async def scenario() -> None:
        scene = await _up(PUBLIC)
        datagram = packet(OUTSIDE[4], FLOATING[4], "udp", 53, sport=5353)
        (first,) = scene.stack.receive(datagram, "up0")
        scene.stack.take(first)
        assert str(first.packet.destination) == POD[4]
        scene.datastore.apply(pod("web", "10.244.1.12", "fd00:244:1::12"))
        await asyncio.sleep(1)
        (again,) = scene.stack.receive(datagram, "up0")
        assert str(again.packet.destination) == "10.244.1.12"

    simulate(scenario())


@pytest.mark.parametrize("away", ["agent", "pool", "address", "object", "node"])
def test_what_takes_it_away_and_brings_it_back(away: str) -> None:
    """An agent that starts again changes nothing; each of the others leaves no rule behind."""

    async def scenario() -> None:
        scene = await _up(PUBLIC)
        if away == "agent":
            await scene.kill()
            await asyncio.sleep(1)
            assert scene.announces() == {FLOATING[4]}
            scene.start()
            for _ in range(20):
                await asyncio.sleep(0.1)
                assert scene.announces() == {FLOATING[4]}
            return
        taken = {
            "pool": (POOLS, POOLS),
            "address": ((), ()),
            "object": ((PUBLIC,), (PUBLIC,)),
            "node": ((), ()),
        }[away]
        for each in taken[0]:
            scene.datastore.delete(each)
        if away == "address":
            scene.datastore.apply(service("thief", "10.96.9.9", externalIPs=list(FLOATING.values())))
        if away == "node":
            scene.datastore.apply(node("n3", addresses=tuple(FLOATING.values())))
        await asyncio.sleep(1)
        assert not scene.announces() or away == "address"
        table = scene.firewall.table
        assert not any("floating" in name for name in table.chains)
        assert not any(held for name, held in table.sets.items() if name.startswith("floating"))
        scene.datastore.apply(*taken[1])
        if away == "address":
            scene.datastore.delete(service("thief", "10.96.9.9"))
        if away == "node":
            scene.datastore.delete(node("n3"))
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]} and scene.announces(6) == {FLOATING[6]}

    simulate(scenario())


@pytest.mark.parametrize("by", ["FloatingIP", "annotation"])
def test_the_last_pool_takes_all_with_it(by: str) -> None:
    """Also with the last FloatingIP at one time, as when a file is deleted; or of a Pod that asks."""

    async def scenario() -> None:
        scene = Floated()
        await scene.up()
        spec: dict[str, Any] = {"cidr": "203.0.113.0/24", "allowedUses": ["Floating"]}
        spec["namespaceSelector"] = {"matchLabels": {"team": "shop"}}
        pool = document("IPPool", "public4", spec=spec)
        asking = floating("web", FLOATING[4])
        if by == "annotation":
            asking = pod("web", *POD.values(), annotations={"l3net.io/floating-ips": FLOATING[4]})
        scene.datastore.apply(pool, SHOP, MINE, asking)
        await asyncio.sleep(1)
        for again in (True, False):
            assert scene.announces() == {FLOATING[4]}
            scene.datastore.delete(pool)
            if by == "FloatingIP":
                scene.datastore.delete(asking)
            await asyncio.sleep(1)
            assert not scene.announces()
            assert not any("floating" in name for name in scene.firewall.table.chains)
            if again:
                scene.datastore.apply(pool, asking)
                await asyncio.sleep(1)

    simulate(scenario())


def test_a_routers_own_address_is_refused() -> None:
    """Were it translated, the node would talk BGP with a pod."""

    async def scenario() -> None:
        scene = await _up(floating("web", *TOR.values()))
        pools = [
            document("IPPool", f"wide{each}", spec={"cidr": cidr, "allowedUses": ["Floating"]})
            for each, cidr in ((4, "10.0.0.0/24"), (6, "fd00::/120"))
        ]
        scene.datastore.apply(*pools)
        await asyncio.sleep(1)
        for version in BOTH:
            answer = await _explained(scene, f"address {TOR[version]}")
            assert answer["cause"] == "floatingNodeAddress", answer["answer"]
        assert not scene.status()["floating"]["held"]

    simulate(scenario())


def test_of_two_that_want_it_the_older_has_it() -> None:
    async def scenario() -> None:
        scene = await _up(PUBLIC)
        thief = floating(
            "a-thief", FLOATING[4], created="2026-01-09T00:00:00Z", selector={"matchLabels": {"app": "bad"}}
        )
        scene.datastore.apply(thief, pod("bad", REMOTE[4], on="n2", app="bad"))
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]}
        scene.datastore.delete(PUBLIC)
        await asyncio.sleep(1)
        assert not scene.announces()
        scene.datastore.apply(PUBLIC)
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]}

    simulate(scenario())


@pytest.mark.parametrize(
    ("selector", "has"), [(None, False), ({"team": "shop"}, True), ({"team": "x"}, False)]
)
def test_a_pod_asks_by_its_annotation_where_the_pool_names_its_namespaces(
    selector: dict[str, str] | None, has: bool
) -> None:
    """Else whoever may make Pods could take any address."""

    async def scenario() -> None:
        spec = {"cidr": "203.0.113.0/24", "allowedUses": ["Floating"]}
        if selector is not None:
            spec["namespaceSelector"] = {"matchLabels": selector}
        scene = await _up(
            document("IPPool", "public4", spec=spec),
            pod("web", *POD.values(), annotations={"l3net.io/floating-ips": FLOATING[4]}),
        )
        assert scene.announces() == ({FLOATING[4]} if has else set())

    simulate(scenario())


@pytest.mark.parametrize("stage", ["cordon", "standby"])
def test_a_node_that_drains_gives_it_to_a_standby(stage: str) -> None:
    """Without one it keeps it, as the last choice, until all is withdrawn."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, *((OTHER,) if stage == "standby" else ()))
        scene.datastore.apply(NODE | {"spec": NODE["spec"] | {"unschedulable": True}})
        await asyncio.sleep(1)
        assert scene.announces() == (set() if stage == "standby" else {FLOATING[4]})

    simulate(scenario())


def test_a_policy_is_judged_by_the_pods_own_address() -> None:
    from sim_policies import policy

    async def scenario() -> None:
        scene = await _up(PUBLIC)
        scene.datastore.apply(policy("closed", {"app": "web"}, {"role": "good"}, port=8080))
        await asyncio.sleep(1)
        assert scene.arriving(FLOATING[4]) == {"dropped"}
        assert short(scene.stack.receive(packet(REMOTE[4], FLOATING[4], dport=80), "up0")) == {"dropped"}

    simulate(scenario())


class Unseen:
    """ports.Sight, of a kernel that cannot be asked."""

    def way(self, destination: Address, source: Address | None = None) -> Way:
        return Way("unknown")

    def others(self) -> tuple[Sequence[Any], Sequence[str]]:
        return (), ()

    def host(self) -> Any:
        return UNSEEN


async def _explained(scene: Floated, subject: str) -> dict[str, Any]:
    return await explain_answer(scene.agent, Unseen(), lambda _about: None, json.dumps({"subject": subject}))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ((), ""),
        ((pod("web", *POD.values(), ready=None),), "floatingNoPodReady"),
        ((pod("web", *POD.values(), app="other"),), "floatingNoPod"),
        (
            (document("IPPool", "public4", spec={"cidr": "198.51.100.0/24", "allowedUses": ["Floating"]}),),
            "floatingOutsidePools",
        ),
        ((service("thief", "10.96.9.9", externalIPs=list(FLOATING.values())),), "floatingServiceAddress"),
    ],
)
def test_it_is_explained(change: tuple[dict[str, Any], ...], cause: str) -> None:
    async def scenario() -> None:
        scene = await _up(PUBLIC)
        scene.datastore.apply(*change)
        await asyncio.sleep(1)
        answer = await _explained(scene, f"address {FLOATING[4]}")
        if cause == "floatingServiceAddress":  # it is the service that answers
            assert "service default/thief" in answer["subject"]
            return
        assert answer["cause"] == cause, answer["answer"]
        assert answer["healthy"] is not bool(cause) and bool(answer["advice"]) is bool(cause)
        if not cause:
            assert "pod default/web's on n1" in answer["answer"]
            rows = {(row["what"], row["verdict"]) for row in answer["steps"]}
            assert (f"announcement of {FLOATING[4]}/32", "ok") in rows
            path = await _explained(scene, f"{OUTSIDE[4]} {FLOATING[4]}:80")
            assert path["healthy"], path["answer"]
            held = scene.status()["floating"]["held"]
            assert (held[0]["address"], held[0]["pod"]) == (FLOATING[4], "default/web")

    simulate(scenario())


def test_a_pod_that_says_it_has_a_floating_address_is_explained() -> None:
    async def scenario() -> None:
        scene = await _up(PUBLIC)
        scene.datastore.apply(pod("web", FLOATING[4]))
        await asyncio.sleep(1)
        answer = await _explained(scene, f"address {FLOATING[4]}")
        assert answer["steps"][0]["verdict"] == "ok" and f"pod default/web ({FLOATING[4]})" in str(
            answer["steps"][0]
        )

    simulate(scenario())


@pytest.mark.parametrize("version", BOTH)
def test_a_path_to_one_of_another_node_is_explained(version: int) -> None:
    """From outside and from a pod; and where nobody has it, why not."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, OTHER)
        address, asked = FLOATING[version], f"[{FLOATING[version]}]:80"
        scene.datastore.apply(WHO["not ready"])
        await asyncio.sleep(1)
        for source in (OUTSIDE[version], "default/web"):
            answer = await _explained(scene, f"{source} {asked}")
            said = str(answer["steps"])
            assert answer["healthy"], answer["answer"]
            assert f"pod default/other ({REMOTE[version]}) on node n2 has {address}" in said
            assert "--node n2" in said and "nobody" not in said
        scene.datastore.delete(OTHER)
        await asyncio.sleep(1)
        answer = await _explained(scene, f"{OUTSIDE[version]} {asked}")
        assert answer["cause"] == "floatingNoPodReady" and not answer["healthy"]

    simulate(scenario())


@pytest.mark.parametrize("version", BOTH)
def test_what_a_pod_sends_is_explained(version: int) -> None:
    """It leaves with the floating address, so that is what routers have to be told of."""

    async def scenario() -> None:
        scene = await _up()
        subject = f"default/web [{OUTSIDE[version]}]:443"
        assert "floating" not in str((await _explained(scene, subject))["steps"])
        scene.datastore.apply(PUBLIC)
        await asyncio.sleep(1)
        said = str((await _explained(scene, subject))["steps"])
        assert f"leaves with the floating address {FLOATING[version]}" in said
        assert f"routers have a route to {FLOATING[version]}" in said
        inside = str((await _explained(scene, f"default/web [{REMOTE[version]}]:443"))["steps"])
        assert "floating" not in inside

    simulate(scenario())


def test_a_pod_of_a_node_that_is_not_declared_comes_last() -> None:
    """The Pods of a node that is deleted stay for a while, and nobody announces for them."""

    async def scenario() -> None:
        scene = await _up(PUBLIC, pod("ghost", "10.244.9.9", on="gone", created="2025-01-01T00:00:00Z"))
        scene.datastore.apply(pod("ghost", "10.244.9.9", on="gone", ready="2025-01-01T00:00:00Z"))
        await asyncio.sleep(1)
        assert scene.announces() == {FLOATING[4]}

    simulate(scenario())


def test_no_address_of_a_service_range_can_be_had() -> None:
    """A later ClusterIP may be the same, and no other node would learn the route."""

    async def scenario() -> None:
        scene = await _up(
            document("IPPool", "wide", spec={"cidr": "10.96.0.0/16", "allowedUses": ["Floating"]}),
            floating("web", "10.96.77.7"),
        )
        assert "10.96.77.7" not in {each.partition("/")[0] for each in scene.heard(scene.tor4)}
        assert not scene.agent.floating.held

    simulate(scenario())
