"""A whole agent on a simulated node: which address pods leave the cluster with, and by which node."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from packets.outcomes import Forwarded
from packets.packet import packet
from scene import BLOCKS, NODE
from sim_floating import FLOATING, POOLS, SHOP, Floated, floating, pod
from sim_node import document, node
from simloop import simulate
from test_packets_node import BOTH, N2_BLOCKS, OUTSIDE, POD, REMOTE, TOR, short

from l3net.model import ObjectName
from l3net.naming import ENVELOPE
from l3net.policy.attached import Attached
from l3net.ports import WayGone

EGRESS = {4: "198.51.100.10", 6: "2001:db8:e::10"}
EGRESS_POOLS = tuple(
    document("IPPool", f"egress{version}", spec={"cidr": cidr, "allowedUses": ["Egress"]})
    for version, cidr in ((4, "198.51.100.0/24"), (6, "2001:db8:e::/112"))
)
MINE = pod("web", *POD.values())
OTHER = pod("other", *REMOTE.values(), on="n2", ready="2026-01-05T00:00:00Z", created="2026-01-05T00:00:00Z")
HERE = node("n1", *BLOCKS, metadata={"labels": {"egress": "here"}})
THERE = {"addresses": ("10.0.0.3", "fd00::3"), "metadata": {"labels": {"egress": "there"}}}
AWAY = node("n2", *N2_BLOCKS, **THERE)


def egress(where: str = "", name: str = "out", created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Any:
    """For the pods with the label app=web; `where`: held by n1 (here) or n2 (there) alone."""
    body: dict[str, Any] = {
        "addresses": list(EGRESS.values()),
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app": "web"}},
    }
    if where:
        body["nodeSelector"] = {"matchLabels": {"egress": where}}
    return document("EgressIP", name, metadata={"creationTimestamp": created}, spec={**body, **spec})


class Leaving(Floated):
    def holds(self, version: int = 4) -> bool:
        """Whether the router hears that this node holds the address."""
        tor = self.tor4 if version == 4 else self.tor6
        return any(each.partition("/")[0] == EGRESS[version] for each in self.heard(tor))

    def handed(self, source: str, to: str) -> set[str]:
        """What becomes of a packet that another node has handed on."""
        return short(self.stack.receive(packet(source, to, dport=443), ENVELOPE))

    def as_itself(self, version: int) -> set[str]:
        return {f"{POD[version]} > {OUTSIDE[version]} 443 by up0 {TOR[version]}"}

    def as_egress(self, version: int, name: str = "") -> set[str]:
        return {f"{name or EGRESS[version]} > {OUTSIDE[version]} 443 by up0 {TOR[version]}"}

    def by_other(self, version: int) -> bool:
        """Whether the pod's packet goes on to the other node as it is."""
        (sent,) = self.stack.from_pod(packet(POD[version], OUTSIDE[version], dport=443))
        return (
            isinstance(sent, Forwarded)
            and sent.interface == ENVELOPE
            and str(sent.packet.source) == POD[version]
        )


async def _up(*more: dict[str, object], **options: bool) -> Leaving:
    scene = Leaving(**options)
    await scene.up()
    scene.datastore.apply(*POOLS, *EGRESS_POOLS, SHOP, HERE, AWAY, MINE, OTHER, *more)
    await asyncio.sleep(1)
    return scene


def test_pods_leave_with_the_address_that_this_node_holds() -> None:
    async def scenario() -> None:
        scene = await _up()
        for version in BOTH:  # the control
            assert scene.leaving(OUTSIDE[version], version) == scene.as_itself(version)
            assert not scene.holds(version)
        scene.datastore.apply(egress("here"))
        await asyncio.sleep(1)
        for version in BOTH:
            own, outside, remote = POD[version], OUTSIDE[version], REMOTE[version]
            assert scene.holds(version)
            for protocol in ("tcp", "udp", "sctp"):
                assert scene.leaving(outside, version, protocol=protocol) == scene.as_egress(version)
            # Those of the other node are handed on; nobody else is, nor what is for the cluster.
            assert scene.handed(remote, outside) == scene.as_egress(version)
            stranger = remote.replace("3", "4")
            assert scene.handed(stranger, outside) == {"dropped"}
            assert scene.handed(outside, remote) == {"dropped"}
            # Inside it keeps its own address, and what comes from outside is answered with it.
            assert scene.leaving(remote, version) == {f"{own} > {remote} 443 by up0 {TOR[version]}"}
            (come,) = scene.stack.receive(packet(outside, own, dport=80, sport=41000), "up0")
            scene.stack.take(come)
            (back,) = scene.stack.from_pod(come.packet.answer())
            assert isinstance(back, Forwarded) and str(back.packet.source) == own
            # Nobody asked the address for anything.
            assert scene.by_link(outside, EGRESS[version], 80) == {"dropped"}
        assert not scene.problems()

    simulate(scenario())


def test_answers_come_back_to_the_pod() -> None:
    async def scenario() -> None:
        scene = await _up(egress("here"))
        for version in BOTH:
            for source, link in ((POD[version], ""), (REMOTE[version], ENVELOPE)):
                sent = packet(source, OUTSIDE[version], dport=443, sport=40001)
                (out,) = scene.stack.receive(sent, link) if link else scene.stack.from_pod(sent)
                scene.stack.take(out)
                (back,) = scene.stack.receive(out.packet.answer(), "up0")
                assert str(back.packet.destination) == source

    simulate(scenario())


def test_they_go_on_to_the_node_that_holds_it() -> None:
    async def scenario() -> None:
        scene = await _up(egress("there"))
        for version in BOTH:
            assert scene.by_other(version) and not scene.holds(version)
            # It has handed nothing on to us that is ours to translate.
            assert scene.handed(REMOTE[version], OUTSIDE[version]) == {"dropped"}
        # Somebody takes rules and tables away: nothing leaves by another way.
        ways, scene.egress_ways._ways = scene.egress_ways.ways, frozenset()
        for version in BOTH:
            assert scene.leaving(OUTSIDE[version], version) == {"dropped"}
        # The kernel tells, and they are put back.
        scene.kernel.notice(WayGone())
        await asyncio.sleep(0.2)
        assert scene.egress_ways.ways == ways and scene.by_other(4)
        scene.datastore.delete(egress("there"))
        await asyncio.sleep(1)
        assert scene.leaving(OUTSIDE[4]) == scene.as_itself(4) and not scene.egress_ways.ways

    simulate(scenario())


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"matchLabels": {"egress": "nowhere"}}},
        {"addresses": ["203.0.114.1", "2001:db8:bad::1"]},
    ],
    ids=["no node", "no pool"],
)
def test_where_it_cannot_be_nothing_leaves_with_another_address(spec: dict[str, Any]) -> None:
    async def scenario() -> None:
        scene = await _up(egress(**spec))
        for version in BOTH:
            assert scene.leaving(OUTSIDE[version], version) == {"dropped"}
            assert scene.leaving(REMOTE[version], version) != {"dropped"}
        scene.datastore.apply(MINE | {"metadata": {**MINE["metadata"], "labels": {"app": "other"}}})
        await asyncio.sleep(1)
        assert scene.leaving(OUTSIDE[4]) == scene.as_itself(4), "it is selected no more"

    simulate(scenario())


def test_of_several_the_oldest_that_is_for_the_destination_counts() -> None:
    async def scenario() -> None:
        second = {4: "198.51.100.20", 6: "2001:db8:e::20"}
        late = egress("here", "a-late", "2026-02-01T00:00:00Z", addresses=list(second.values()))
        early = egress("here", "z-early", destinationCIDRs=["192.0.2.64/26", "2001:db8::/64"])
        scene = await _up(late, early)
        for version in BOTH:
            assert scene.leaving(OUTSIDE[version], version) == scene.as_egress(version)
            far = {4: "192.0.2.9", 6: "2001:db8:0:7::9"}[version]
            assert {each.partition(" ")[0] for each in scene.leaving(far, version)} == {second[version]}

    simulate(scenario())


def test_a_pod_with_a_floating_address_leaves_with_that() -> None:
    async def scenario() -> None:
        scene = await _up(egress("there"), floating("web", FLOATING[4]))
        assert scene.leaving(OUTSIDE[4]) == scene.as_egress(4, FLOATING[4])
        assert scene.by_other(6), "of the other family it has none"

    simulate(scenario())


def test_another_node_takes_over_when_a_node_is_not_heard_of_any_more() -> None:
    """As BFD has routers withdraw it, long before its Node says so."""

    async def scenario() -> None:
        scene = await _up(egress())
        both = [scene.tor4, scene.tor6]
        held = {version: scene.holds(version) for version in BOTH}
        assert not all(held.values()), "the other node holds one"
        for tor, block in zip(both, N2_BLOCKS, strict=True):
            scene.speaker.withdraw(tor, block)
        await asyncio.sleep(1)
        for version in BOTH:
            assert scene.holds(version) and scene.leaving(OUTSIDE[version], version) == scene.as_egress(
                version
            )
        for tor, block in zip(both, N2_BLOCKS, strict=True):
            tor.route(block)
            scene.speaker.say(tor, ip_network(block))
        await asyncio.sleep(1)
        assert {version: scene.holds(version) for version in BOTH} == held, "and has it back"
        # It is this node that is cut off: nothing is known of others.
        for tor in both:
            scene.speaker.drop(tor, back=False)
        await asyncio.sleep(1)
        assert scene.agent.egress.reachable.lost == frozenset()

    simulate(scenario())


def test_another_node_takes_over_when_a_node_is_not_ready() -> None:
    async def scenario() -> None:
        scene = await _up(egress())
        assert not all(map(scene.holds, BOTH))
        scene.datastore.apply(node("n2", *N2_BLOCKS, ready=False, **THERE))
        await asyncio.sleep(1)
        for version in BOTH:
            assert scene.holds(version) and scene.leaving(OUTSIDE[version], version) == scene.as_egress(
                version
            )
        scene.datastore.apply(AWAY, NODE)
        await asyncio.sleep(1)

    simulate(scenario())


def test_a_pod_leaves_with_it_from_its_first_packet() -> None:
    """Its Pod tells its address only after it runs."""

    async def scenario() -> None:
        scene = await _up(egress("here"))
        new = {4: "10.244.1.77", 6: "fd00:244:1::77"}
        scene.datastore.apply(pod("new"))
        await asyncio.sleep(0.2)
        attached = Attached(ObjectName("default", "new"), tuple(map(ip_address, new.values())))
        assert await scene.pods.add("new", attached) == ""
        for version, address in new.items():
            sent = scene.stack.from_pod(packet(address, OUTSIDE[version], dport=443))
            assert short(sent) == scene.as_egress(version)

    simulate(scenario())


@pytest.mark.parametrize("selected", [True, False])
def test_a_pod_waits_until_it_is_known_with_which_address_it_leaves(selected: bool) -> None:
    async def scenario() -> None:
        scene = await _up(*([egress("here")] if selected else []), declares_pods=True)
        attached = Attached(ObjectName("default", "never"), (ip_address("10.244.1.78"),))
        why = await scene.pods.add("never", attached)
        assert ("has not reported pod default/never" in why) is selected, why

    simulate(scenario())


def test_a_node_tells_at_once_that_it_takes_what_others_hand_on() -> None:
    """Until it does, it holds no address in a cluster."""

    async def scenario() -> None:
        scene = await _up()
        services, told = scene.agent.services, [False]
        services.on_taking = lambda: told.append(services.takes_handed_on)
        scene.datastore.apply(egress("here"))
        await asyncio.sleep(0.2)
        scene.datastore.delete(egress("here"))
        await asyncio.sleep(1)
        assert told == [False, True, False]

    simulate(scenario())
