"""A whole agent and its BMP collectors: slow ones, dead ones, and peers that come and go meanwhile."""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from bmp_reader import Collected
from scene import BLOCKS, CONFIGURATION, FOUR, NODE, SIX, TOR4, TOR6, Scene
from sim_node import SimCollector, configuration, node
from simloop import simulate

from l3net.agent.metrics import metrics
from l3net.agent.monitoring import exporting
from l3net.bgp.bmp.feed import Feed

WHERE = "10.9.9.9"


def monitored(*names: str, **how: Any) -> dict[str, Any]:
    bmp = [{"name": name, "address": WHERE, "port": 1790 + at, **how} for at, name in enumerate(names)]
    return configuration(monitoring={"bmp": bmp})


class Watched(Scene):
    """Two collectors, one of which is there."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.collectors.there[ip_address(WHERE), 1790] = SimCollector()

    async def up(self, declared: dict[str, Any]) -> None:
        await self.begun(NODE, declared, TOR4, TOR6, seconds=20)

    def collected(self, connection: int = -1) -> Collected:
        return Collected(bytes(self.one.connections[connection]))

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.status()["monitoring"]["bmp"]}


def test_a_collector_has_both_tables_of_each_peer() -> None:
    async def scenario() -> None:
        scene = Watched()
        await scene.up(monitored("one", "two"))
        found = scene.collected()
        assert found.initiation[2] == "n1"
        assert found.prefixes("10.0.0.1") == {FOUR} and found.prefixes("fd00::1") == {SIX}
        assert found.prefixes("10.0.0.1", out=True) | found.prefixes("fd00::1", out=True) == set(BLOCKS)
        assert found.peers["10.0.0.1"].ports == (40000, 179)
        assert found.peers["10.0.0.1"].statistics[7] == found.peers["10.0.0.1"].statistics[15] == 1
        rows = scene.rows()
        assert rows["one"]["connected"] and not rows["two"]["connected"]
        assert rows["two"]["lastError"] == "connection refused"
        assert not [each for each in scene.problems() if "BMP" in each], "it may just be late"
        scene.tor4.route("198.51.100.0/24")
        scene.speaker.say(scene.tor4, ip_network("198.51.100.0/24"))
        await asyncio.sleep(1)
        assert scene.collected().prefixes("10.0.0.1") == {FOUR, "198.51.100.0/24"}
        scene.speaker.drop(scene.tor4, "gone", back=False)
        await asyncio.sleep(1)
        assert scene.collected().peers["10.0.0.1"].downs == [b"\x04"]
        await asyncio.sleep(120)
        (problem,) = (each for each in scene.problems() if "BMP" in each)
        assert "BMP collector two: 10.9.9.9 port 1791 has not been reached for" in problem
        assert 'l3net_bmp_connected{collector="one",address="10.9.9.9",port="1790"} 1' in metrics(scene.agent)
        assert scene.collectors.tried < 20, "later each time"

    simulate(scenario())


def test_an_end_of_a_session_and_its_return_are_told() -> None:
    async def scenario() -> None:
        scene = Watched()
        await scene.up(monitored("one"))
        scene.speaker.kill()  # all sessions with it
        await asyncio.sleep(20)
        found = scene.collected()
        assert found.peers["10.0.0.1"].downs[0] == b"\x02\0\0" and found.peers["10.0.0.1"].up
        assert found.prefixes("10.0.0.1") == {FOUR} and found.prefixes("fd00::1") == {SIX}
        scene.datastore.delete(TOR4)
        await asyncio.sleep(10)
        assert scene.collected().peers["10.0.0.1"].downs[-1] == b"\x05"
        assert scene.collected().peers["fd00::1"].up

    simulate(scenario())


def test_a_collector_that_reads_nothing_holds_up_nobody_and_is_told_all_anew() -> None:
    async def scenario() -> None:
        scene = Watched()
        await scene.up(monitored("one"))
        scene.one.deaf = True
        scene.tor4.route("198.51.100.0/24")
        scene.speaker.say(scene.tor4, ip_network("198.51.100.0/24"))
        await asyncio.sleep(5)
        assert "198.51.100.0/24" in scene.learned()
        await asyncio.sleep(2 * exporting.PATIENCE)
        assert not scene.rows()["one"]["connected"] or len(scene.one.connections) > 1
        scene.one.deaf = False
        await asyncio.sleep(2 * exporting.PATIENCE)
        assert scene.rows()["one"]["connected"]
        assert scene.collected().prefixes("10.0.0.1") == {FOUR, "198.51.100.0/24"}

    simulate(scenario())


def test_a_collector_that_falls_behind_is_told_all_anew(monkeypatch: Any) -> None:
    monkeypatch.setattr(exporting, "Feed", partial(Feed, most=2))

    async def scenario() -> None:
        scene = Watched()
        await scene.up(monitored("one"))
        scene.one.deaf = True
        for number in range(8):
            scene.tor4.route(f"198.51.{number}.0/24")
            scene.speaker.say(scene.tor4, ip_network(f"198.51.{number}.0/24"))
            await asyncio.sleep(0.3)
        scene.one.deaf = False
        await asyncio.sleep(30)
        row = scene.rows()["one"]
        assert row["dropped"] >= 1 and row["connected"] and row["waiting"] == 0
        assert len(scene.collected().prefixes("10.0.0.1")) == 9

    simulate(scenario())


def test_what_is_declared_is_followed() -> None:
    async def scenario() -> None:
        scene = Watched()
        await scene.up(CONFIGURATION)
        assert scene.rows() == {} and scene.collectors.tried == 0
        listened = scene.agent.rib.on_changed, scene.agent.speaking.peers.on_changed
        assert listened == (None, None), "nobody looks: nothing is listened to"
        scene.datastore.apply(monitored("one", nodeSelector={"matchLabels": {"bmp": "yes"}}))
        await asyncio.sleep(5)
        assert scene.rows() == {}
        scene.datastore.apply(node("n1", *BLOCKS, metadata={"labels": {"bmp": "yes"}}))
        await asyncio.sleep(5)
        assert scene.rows()["one"]["connected"] and scene.agent.rib.on_changed is not None
        scene.one.hang_up()
        await asyncio.sleep(5)
        assert len(scene.one.connections) == 2
        scene.datastore.apply(CONFIGURATION)
        await asyncio.sleep(5)
        assert scene.collected().terminated == 0 and scene.rows() == {} and not scene.one.open
        assert scene.agent.rib.on_changed is None and scene.agent.speaking.announcer.on_said is None
        scene.datastore.apply(monitored("one"))
        await asyncio.sleep(5)
        await scene.kill()
        assert scene.collected().terminated == 0

    simulate(scenario())


def test_an_older_speaker_has_opens_made_up() -> None:
    async def scenario() -> None:
        scene = Watched()
        scene.speaker.older = True
        await scene.up(monitored("one"))
        told = scene.collected().peers["10.0.0.1"]
        assert told.up and told.ports == (0, 0) and str(told.local) == "10.0.0.2"
        assert told.opens[0][-6:] == b"\x41\x04" + (64512).to_bytes(4, "big")

    simulate(scenario())
