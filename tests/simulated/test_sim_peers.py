"""A whole agent on a simulated node: sessions, ExaBGP and BFD come, change, are lost and return."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from scene import BLOCKS, CONFIGURATION, FOUR, LEARNED, NODE, SIX, TOR4, TOR6, Scene
from sim_node import configuration, document, peer
from sim_speaker import SimRouter
from simloop import simulate

from l3net.agent.exports import exports
from l3net.agent.planning import plan_for
from l3net.agent.speaker import configuring
from l3net.bgp.exabgp.configuration import render
from l3net.errors import KernelError
from l3net.model import Kind, ObjectName, Secret
from l3net.ports import Changed

FILTER = document("BGPFilter", "nothing", spec={"export": [{"action": "Reject"}]})


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_an_exabgp_that_is_lost_is_told_everything_again(how: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        if how == "hangs":
            scene.speaker.deaf = True
            scene.datastore.apply(configuration(advertise={"communities": ["64512:1"]}))
            await asyncio.sleep(10)
            scene.speaker.deaf = False  # its relay has had it killed
        scene.speaker.kill()
        await asyncio.sleep(0.1)
        assert scene.learned() == LEARNED, "they stay while the speaker restarts"
        assert any("speaker cannot be reached" in each for each in scene.problems())
        await asyncio.sleep(10)
        assert scene.learned() == LEARNED and scene.blocks_heard() == set(BLOCKS)
        assert [each.ends_of_rib for each in scene.routers] == [2, 2]
        assert not scene.problems()
        # What a router no longer says after it goes, and only then.
        scene.tor4.announces.clear()
        scene.speaker.kill()
        await asyncio.sleep(0.2)
        assert scene.learned() == LEARNED
        await asyncio.sleep(10)
        assert scene.learned() == {SIX}

    simulate(scenario())


def test_a_speaker_that_comes_late_finds_everything_as_it_was() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        await scene.kill()
        scene.speaker.kill()
        scene.speaker.running = False
        scene.start()
        await asyncio.sleep(0.3)
        assert scene.learned() == LEARNED
        scene.speaker.running = False
        await asyncio.sleep(300)
        scene.speaker._start()
        await asyncio.sleep(10)
        assert scene.learned() == LEARNED and scene.blocks_heard() == set(BLOCKS)

    simulate(scenario())


def test_nothing_is_said_before_the_declared_state_is_complete() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.datastore.away = True
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, seconds=60)
        assert scene.speaker.text is None
        assert not [each for each in scene.speaker.commands if "announce" in each or "reload" in each]
        assert not scene.kernel.ours and scene.firewall.replaced == 0
        scene.datastore.away = False
        await asyncio.sleep(3)
        assert scene.learned() == LEARNED and scene.blocks_heard() == set(BLOCKS)

    simulate(scenario())


def test_a_new_peer_and_a_removed_one_leave_the_other_session_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.begun(NODE, CONFIGURATION, TOR4)
        assert scene.learned() == {FOUR}
        scene.datastore.apply(TOR6)
        await asyncio.sleep(3)
        assert scene.learned() == LEARNED and scene.blocks_heard() == set(BLOCKS)
        scene.datastore.delete(TOR6)
        await asyncio.sleep(3)
        assert not scene.heard(scene.tor6), "withdrawn, not left to graceful restart"
        assert scene.learned() == {FOUR}
        assert scene.sessions() == [["up"], ["up", "closed: removed"]]

    simulate(scenario())


def test_no_session_flaps_that_need_not() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(FILTER)
        before = scene.sessions()
        for documents in (
            [configuration(advertise={"communities": ["64512:5"]})],
            [peer("tor4", "10.0.0.1", filters=["nothing"])],
            [peer("tor4", "10.0.0.1", maxPrefixes=7, allowBlackhole=True, thirdPartyNextHops=True)],
            [configuration(**{"import": {"cidrs": ["172.16.0.0/12"]}})],
            [CONFIGURATION, TOR4],
        ):
            scene.datastore.apply(*documents)
            await asyncio.sleep(3)
            assert scene.sessions() == before, documents
        assert scene.learned() == LEARNED and scene.blocks_heard() == set(BLOCKS)
        scene.datastore.apply(peer("tor4", "10.0.0.1", holdTime=12))  # the control
        await asyncio.sleep(3)
        assert scene.sessions() == [["up", "closed: changed", "up"], ["up"]]

    simulate(scenario())


def test_communities_and_filters_are_what_the_router_hears() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(FILTER)
        scene.datastore.apply(configuration(advertise={"communities": ["64512:5"]}))
        await asyncio.sleep(1)
        assert "community [ 64512:5 ]" in scene.tor4.heard[ip_network(BLOCKS[0])]
        scene.datastore.apply(peer("tor4", "10.0.0.1", filters=["nothing"]))
        await asyncio.sleep(1)
        assert not scene.heard(scene.tor4)
        rows = {(row["name"], row["prefix"]): row["verdict"] for row in exports(scene.agent)["routes"]}
        assert rows == {
            ("tor4", BLOCKS[0]): "filteredBy:nothing",
            ("tor4", BLOCKS[1]): "familyNotNegotiated",
            ("tor6", BLOCKS[0]): "familyNotNegotiated",
            ("tor6", BLOCKS[1]): "announced",
        }

    simulate(scenario())


def test_a_plan_says_what_would_be_done_and_does_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        before = list(scene.speaker.commands)

        def planned(*documents: dict[str, Any]) -> dict[str, str]:
            scene.plans["/plan"] = list(documents)
            found = plan_for(scene.agent, Path("/plan"))
            return {row["peer"]: row["action"] for row in found["sessions"]}

        assert planned(NODE, CONFIGURATION, TOR4, TOR6) == {"10.0.0.1": "unchanged", "fd00::1": "unchanged"}
        assert planned(NODE, CONFIGURATION, TOR6) == {"10.0.0.1": "removed", "fd00::1": "unchanged"}
        hold = peer("tor4", "10.0.0.1", holdTime=12)
        assert planned(NODE, CONFIGURATION, hold, TOR6)["10.0.0.1"] == "reset"
        softly = configuration(advertise={"communities": ["64512:5"]})
        assert planned(NODE, softly, TOR4, TOR6) == {"10.0.0.1": "soft", "fd00::1": "soft"}
        assert scene.speaker.commands == before

    simulate(scenario())


def test_a_peer_over_its_limit_keeps_its_session_and_harms_no_other() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.datastore.apply(peer("tor4", "10.0.0.1", maxPrefixes=30))
        await asyncio.sleep(1)
        more = [ip_network(f"172.20.{number}.0/24") for number in range(40)]
        for prefix in more:
            scene.tor4.route(str(prefix))
        scene.speaker.say(scene.tor4, *more)
        await asyncio.sleep(1)
        row = scene.peers()["10.0.0.1"]
        assert (row["received"], row["overLimit"]) == (30, ["IPv4"])
        assert any("over its limit" in each for each in scene.problems())
        for prefix in more[5:]:
            scene.speaker.withdraw(scene.tor4, str(prefix))
        await asyncio.sleep(1)
        row = scene.peers()["10.0.0.1"]
        assert (row["accepted"], row["overLimit"]) == (6, [])
        scene.datastore.apply(peer("tor4", "10.0.0.1", maxPrefixes=3))
        await asyncio.sleep(1)
        assert scene.peers()["10.0.0.1"]["received"] == 3
        scene.datastore.apply(TOR4)
        await asyncio.sleep(1)
        assert scene.peers()["10.0.0.1"]["accepted"] == 6 and SIX in scene.learned()
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_peers_by_autodiscovery_follow_the_default_gateway() -> None:
    async def scenario() -> None:
        scene = Scene()
        found = document("BGPPeer", "gateway", spec={"autodiscover": "DefaultGateway", "asNumber": 65001})
        await scene.begun(NODE, CONFIGURATION, found)
        assert scene.peers() == {}
        scene.kernel.other_route("0.0.0.0/0", "up0", "10.0.0.1")
        scene.kernel.other_route("::/0", "up0", "fd00::1")
        await asyncio.sleep(3)
        assert scene.learned() == LEARNED
        scene.kernel.delete_other("::/0")
        await asyncio.sleep(3)
        assert set(scene.peers()) == {"10.0.0.1"} and scene.learned() == {FOUR}

    simulate(scenario())


def test_bad_peers_are_left_out() -> None:
    """From the first start on: of what ExaBGP refuses, and of what cannot be a session."""

    async def scenario() -> None:
        scene = Scene()
        scene.speaker.refuses = lambda block: "10.0.0.66" in block
        bad = [peer("refused", "10.0.0.66"), peer("filter", "10.0.0.67", filters=["none"])]
        await scene.ready(*bad)
        rows = scene.peers()
        assert rows["10.0.0.66"]["reason"].startswith("ExaBGP refuses")
        assert rows["10.0.0.67"]["reason"].startswith("missingFilter: none; create the BGPFilter")
        problems = "\n".join(scene.problems())
        assert "peer refused: ExaBGP refuses its configuration" in problems and "missingFilter" in problems
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_a_configuration_that_cannot_be_written_ends_nothing_and_is_told() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.speaker.writing_fails = "exabgp.conf cannot be written (No space left on device)"
        scene.datastore.apply(peer("tor4", "10.0.0.1", holdTime=12))
        await asyncio.sleep(30)
        assert any("No space left" in each for each in scene.problems())
        assert scene.learned() == LEARNED and scene.sessions() == [["up"], ["up"]]
        scene.speaker.writing_fails = ""
        await asyncio.sleep(61)
        assert not scene.problems()
        assert scene.sessions() == [["up", "closed: changed", "up"], ["up"]]

    simulate(scenario())


def test_a_password_is_in_the_configuration_and_nowhere_else() -> None:
    async def scenario() -> None:
        scene = Scene()
        name = ObjectName("kube-system", "bgp")
        secret = Changed(Kind.SECRET, name, Secret(name, {"password": b"canary-7f3a"}))
        scene.datastore.objects[Kind.SECRET, name] = secret
        guarded = {"secretKeyRef": {"name": "bgp", "namespace": "kube-system", "key": "password"}}
        await scene.begun(NODE, CONFIGURATION, peer("tor4", "10.0.0.1", password=guarded, gtsm=True), TOR6)
        assert scene.speaker.text is not None and "md5-password" in scene.speaker.text
        assert "incoming-ttl 255" in scene.speaker.text
        row = scene.peers()["10.0.0.1"]
        assert row["password"] is True and row["gtsm"] is True
        assert "canary" not in str(scene.status()) + str(scene.speaker.commands)

    simulate(scenario())


def test_a_router_that_restarts_keeps_its_routes_until_it_has_spoken() -> None:
    """Graceful restart, as helper; without the capability the routes go at once."""

    async def scenario(restart: int | None) -> list[set[str]]:
        scene = Scene()
        scene.tor4.graceful_restart = restart
        await scene.ready()
        scene.speaker.drop(scene.tor4, back=False)
        await asyncio.sleep(1)
        found = [scene.learned()]
        scene.tor4.there = True
        scene.tor4.announces.clear()
        scene.tor4.route("203.0.113.0/24")
        scene.speaker.dial(scene.tor4.address)
        await asyncio.sleep(7)  # End-of-RIB, and a little for peers that say it too early
        return [*found, scene.learned()]

    new = {SIX, "203.0.113.0/24"}
    assert simulate(scenario(120)) == [LEARNED, new]
    assert simulate(scenario(None)) == [{SIX}, new]


def test_a_router_that_stays_away_loses_its_routes_when_its_time_is_over() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.speaker.drop(scene.tor4, back=False)
        await asyncio.sleep(119)
        assert scene.learned() == LEARNED
        await asyncio.sleep(2)
        assert scene.learned() == {SIX}

    simulate(scenario())


@pytest.mark.parametrize("received", [True, False])
def test_a_notification_of_either_side_keeps_nothing(received: bool) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.tor4.there = False
        code, subcode = (6, 2) if received else (4, 0)
        scene.speaker.notify(scene.tor4, code, subcode, received=received)
        await asyncio.sleep(0.2)
        assert scene.learned() == {SIX}
        assert scene.peers()["10.0.0.1"]["lastReset"]["direction"] == ("received" if received else "sent")

    simulate(scenario())


def test_bfd_takes_a_peers_paths_at_once_and_gives_them_back() -> None:
    async def scenario() -> None:
        scene = Scene()
        guarded = [peer("tor4", "10.0.0.1", bfd={"enabled": True}), TOR6]
        await scene.begun(NODE, CONFIGURATION, *guarded)
        address = ip_address("10.0.0.1")
        assert set(scene.bfd.wanted) == {address}
        scene.bfd.say(address, "Up")
        scene.tor4.there = False
        scene.bfd.say(address, "Down", failed=True)
        await asyncio.sleep(0.2)
        assert scene.learned() == {SIX}
        assert scene.peers()["10.0.0.1"]["bfd"]["failed"] is True
        scene.tor4.there = True
        scene.bfd.say(address, "Up")
        scene.speaker.dial(address)
        await asyncio.sleep(2)
        assert scene.learned() == LEARNED
        # The process is lost: nothing counts as failed that was not before, and it is told.
        scene.bfd.stop()
        await asyncio.sleep(1)
        assert scene.learned() == LEARNED
        assert any("is `l3net bfd` running?" in each for each in scene.problems())
        scene.bfd.running = True
        await asyncio.sleep(2)
        assert not scene.problems() and set(scene.bfd.wanted) == {address}

    simulate(scenario())


def test_two_routers_to_one_prefix_are_one_route() -> None:
    async def scenario() -> None:
        scene = Scene()
        other = SimRouter(ip_address("10.0.0.9"))
        other.route(FOUR)
        scene.speaker.routers[other.address] = other
        await scene.ready(peer("other", "10.0.0.9"))
        route = next(route for key, route in scene.kernel.ours.items() if str(key[0]) == FOUR)
        assert {str(hop.gateway) for hop in route.next_hops} == {"10.0.0.1", "10.0.0.9"}
        scene.speaker.withdraw(other, FOUR)
        await asyncio.sleep(0.2)
        route = next(route for key, route in scene.kernel.ours.items() if str(key[0]) == FOUR)
        assert {str(hop.gateway) for hop in route.next_hops} == {"10.0.0.1"}

    simulate(scenario())


def test_an_agent_that_cannot_read_links_yet_decides_no_session() -> None:
    """From an empty underlay no peer is on a link, and no session has an address: all would be closed."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        await scene.kill()
        scene.kernel.failing["underlay"] = KernelError("read links", 105)
        scene.start()
        await asyncio.sleep(60)
        assert scene.sessions() == [["up"], ["up"]] and scene.blocks_heard() == set(BLOCKS)
        assert scene.learned() == LEARNED
        assert any("read links" in each for each in scene.problems())
        scene.kernel.failing.clear()
        await asyncio.sleep(31)
        assert scene.sessions() == [["up"], ["up"]] and scene.learned() == LEARNED
        assert not scene.problems()

    simulate(scenario())


def test_what_exabgp_is_given_is_written_out_when_it_changes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with what ExaBGP has loaded every few seconds: with thousands of sessions that costs."""
    written: list[str] = []

    def counted(*arguments: Any) -> str:
        written.append(render(*arguments))
        return written[-1]

    monkeypatch.setattr(configuring, "render", counted)

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        before = len(written)
        await asyncio.sleep(600)
        assert len(written) == before
        scene.datastore.apply(peer("tor4", "10.0.0.1", holdTime=12))
        await asyncio.sleep(30)
        assert len(written) == before + 1 and "hold-time 12" in written[-1]

    simulate(scenario())


def test_what_is_said_on_a_session_that_is_being_closed_is_not_learned() -> None:
    """BFD fails and is back before the session is closed for it: what came between stayed for good."""

    async def scenario() -> None:
        scene = Scene()
        await scene.begun(NODE, CONFIGURATION, peer("tor4", "10.0.0.1", bfd={"enabled": True}), TOR6)
        address = scene.tor4.address
        scene.bfd.say(address, "Up")
        await asyncio.sleep(15)
        assert scene.learned() == LEARNED
        scene.tor4.there = False  # it does not come back
        scene.bfd.say(address, "Down", failed=True)
        scene.bfd.say(address, "Up")
        scene.speaker.say(scene.tor4, ip_network(FOUR))
        await asyncio.sleep(0.01)
        assert scene.tor4.up, "the session is still there"
        scene.speaker.kill()
        await asyncio.sleep(200)
        assert not scene.tor4.up and scene.learned() == {SIX}

    simulate(scenario())
