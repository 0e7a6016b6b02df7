"""The Events of an agent: what lasts, once, and never more than a few."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from scene import CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import node, peer
from simloop import simulate

from l3net.agent.eventing import ATTEMPTS, MOST, TELLERS, Eventing
from l3net.errors import L3netError
from l3net.ipam.lease import Usage
from l3net.model import Kind


@dataclass
class Sink:
    """Keeps what was posted; refuses as long as it is told to."""

    posted: list[tuple[str, str, str, str, bool]] = field(default_factory=list)
    refuses: bool = False
    tried: int = 0

    def tell(self, kind: Kind, name: str, reason: str, message: str, *, normal: bool) -> None:
        self.tried += 1
        if self.refuses:
            raise L3netError("no")
        self.posted.append((kind.value, name, reason, message, normal))

    @property
    def reasons(self) -> list[str]:
        return [each[2] for each in self.posted]


class Told(Scene):
    async def up(self, seconds: float = 3.0) -> tuple[Eventing, Sink]:
        sink = Sink()
        self.datastore.apply(NODE, CONFIGURATION, TOR4, TOR6)
        self.start()
        eventing = Eventing(self.agent, sink)
        self.task = asyncio.create_task(eventing.run())
        await asyncio.sleep(seconds)
        return eventing, sink


def test_what_is_well_from_the_beginning_is_no_event() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up(60)
        assert sink.posted == []
        scene.task.cancel()

    simulate(scenario())


def test_a_session_that_stays_down_and_its_return_are_told_once() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up()
        scene.speaker.drop(scene.tor4, "peer closed", back=False)
        await asyncio.sleep(5)
        assert sink.posted == [], "it may be back in a moment"
        await asyncio.sleep(60)
        ((kind, name, reason, message, normal),) = sink.posted
        assert (kind, name, reason, normal) == ("BGPPeer", "tor4", "SessionDown", False)
        assert message.startswith("session of node n1 with 10.0.0.1 is down: ") and "peer closed" in message
        scene.tor4.there = True
        scene.speaker.dial(scene.tor4.address)
        await asyncio.sleep(60)
        assert sink.reasons == ["SessionDown", "SessionEstablished"] and sink.posted[1][4]
        scene.task.cancel()

    simulate(scenario())


def test_a_short_interruption_is_none() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up()
        scene.speaker.drop(scene.tor4, "peer closed")
        await asyncio.sleep(120)
        assert sink.posted == []
        scene.task.cancel()

    simulate(scenario())


def test_a_peer_that_is_declared_later_is_told_when_it_is_up() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up(200)
        scene.datastore.delete(TOR6)
        await asyncio.sleep(20)
        scene.datastore.apply(peer("other", "fd00::1"))
        await asyncio.sleep(60)
        assert [each[1:3] for each in sink.posted] == [("other", "SessionEstablished")]
        scene.task.cancel()

    simulate(scenario())


def test_a_drain_and_a_refused_table_are_told_on_the_node() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up()
        scene.datastore.apply(node("n1", "10.244.1.0/24", "fd00:244:1::/120", unschedulable=True))
        await asyncio.sleep(60)
        assert {each[:3] for each in sink.posted} == {("Node", "n1", "Draining")} and len(sink.posted) == 2
        scene.datastore.apply(NODE)
        await asyncio.sleep(30)
        assert sink.reasons[-1] == "DrainOver"
        scene.agent.kernel.problems["firewall"] = "no such file"
        await asyncio.sleep(11)
        assert sink.posted[-1][2:4] == (
            "TableRefused",
            "the kernel refuses nftables rules, the rules in force are older: no such file",
        )
        scene.agent.kernel.problems.pop("firewall", None)
        await asyncio.sleep(30)
        assert sink.reasons.count("TableRefused") == 1 and sink.reasons[-1] == "TableInForce"
        scene.task.cancel()

    simulate(scenario())


def test_of_very_many_nodes_some_tell() -> None:
    async def scenario() -> None:
        scene = Told()
        eventing, _ = await scene.up()
        assert eventing._tells_of("tor4")
        others = [node(f"m{at}", f"10.245.{at}.0/24", addresses=(f"10.0.1.{at}",)) for at in range(200)]
        scene.datastore.apply(*others)
        await asyncio.sleep(3)
        telling = 0
        for name in scene.agent.state.nodes:
            scene.agent.node_name = name
            telling += eventing._tells_of("tor4")
        assert telling == TELLERS
        scene.agent.node_name = "n1"
        scene.task.cancel()

    simulate(scenario())


def test_the_queue_is_bounded_and_what_fails_is_given_up() -> None:
    async def scenario() -> None:
        scene = Told()
        eventing, sink = await scene.up()
        sink.refuses = True
        for at in range(MOST + 30):
            eventing._on_node("Test", f"{at}")
        eventing._on_node("Test", "0")
        assert len(eventing._due) == MOST and eventing.counts() == (0, 30)
        await asyncio.sleep(1000)
        assert eventing.counts() == (0, 30 + MOST) and sink.tried == ATTEMPTS * MOST
        sink.refuses = False
        for at in range(20):
            eventing._on_node("Test", f"{at}")
        await asyncio.sleep(11)
        assert 5 <= len(sink.posted) <= 10, "some at a time"
        await asyncio.sleep(60)
        assert eventing.counts() == (20, 30 + MOST)
        scene.task.cancel()

    simulate(scenario())


def test_full_blocks_are_told_and_room_again() -> None:
    async def scenario() -> None:
        scene = Told()
        _, sink = await scene.up()
        pods = scene.agent.pods
        usage, room = pods.usage, scene.agent.podnet.room()
        assert all(use.leased == 0 for _, _, use in room)
        pods.usage = lambda sets: Usage(sets.size - 1, 1) if sets.version == 4 else usage(sets)  # type: ignore[method-assign]
        await asyncio.sleep(30)
        assert [each[1:4] for each in sink.posted] == [
            ("n1", "NoAddressLeft", "no IPv4 address is left in the blocks of this node; new pods wait")
        ]
        pods.usage = usage  # type: ignore[method-assign]
        await asyncio.sleep(30)
        assert sink.reasons == ["NoAddressLeft", "AddressLeft"]
        scene.task.cancel()

    simulate(scenario())
