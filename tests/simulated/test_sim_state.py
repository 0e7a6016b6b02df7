"""A whole agent on a simulated node: the declared state is bad or lost; the node drains, leaves, returns."""

from __future__ import annotations

import asyncio

import pytest
from fate import DRAINING, WEB, Fate
from scene import BLOCKS, CONFIGURATION, FOUR, LEARNED, NODE, SIX, TOR4, TOR6, Scene
from sim_node import configuration, node
from simloop import simulate

from l3net.model import Kind, ObjectName
from l3net.ports import Rejected


def test_without_a_node_object_everything_stays_as_it_is() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        ours = dict(scene.kernel.ours)
        scene.datastore.delete(NODE)
        scene.datastore.delete(TOR4)
        await asyncio.sleep(60)
        assert scene.kernel.ours == ours and scene.sessions() == [["up"], ["up"]]
        assert any("no Node named n1" in each for each in scene.problems())
        scene.kernel.delete_ours(*[key for key in ours if str(key[0]) == FOUR])
        await asyncio.sleep(1)
        assert scene.kernel.ours == ours, "put back all the same"
        scene.datastore.apply(NODE, TOR4)
        await asyncio.sleep(3)
        assert not scene.problems() and scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_without_any_good_configuration_an_agent_that_starts_holds() -> None:
    """Its defaults, another AS number and no policy, would end every session."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        await scene.kill()
        default = Kind.BGP_CONFIGURATION, ObjectName("", "default")
        good = scene.datastore.objects.pop(default)
        wrong = Rejected("conf.yaml", "spec.asNumber", "must be an integer", about=default)
        scene.datastore.objects[default] = wrong  # type: ignore[assignment]
        scene.start()
        await asyncio.sleep(300)
        assert any("no earlier version" in each for each in scene.problems())
        assert scene.learned() == LEARNED and scene.sessions() == [["up"], ["up"]]
        assert scene.blocks_heard() == set(BLOCKS)
        scene.datastore._put(good)
        await asyncio.sleep(5)
        assert scene.learned() == LEARNED and scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_an_api_that_is_lost_costs_nothing_and_what_went_meanwhile_goes() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        scene.datastore.away = True
        scene.datastore.fail()
        await asyncio.sleep(600)
        assert scene.learned() == LEARNED and scene.sessions() == [["up"], ["up"]]
        assert "10.96.0.10/32" in scene.heard(scene.tor4)
        for document in WEB:
            scene.datastore.delete(document)
        scene.datastore.away = False
        await asyncio.sleep(60)
        assert "10.96.0.10/32" not in scene.heard(scene.tor4)
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


@pytest.mark.parametrize("late", [0.0, 0.01, 5.0])
def test_what_went_while_there_was_no_agent_is_withdrawn(late: float) -> None:
    """Whether the declared state or the speaker's answer comes first."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        await scene.kill()
        for document in WEB:
            scene.datastore.delete(document)
        scene.datastore.apply(node("n1", "10.244.7.0/24"))
        scene.datastore.away = bool(late)
        scene.start()
        await asyncio.sleep(late)
        scene.datastore.away = False
        await asyncio.sleep(10)
        assert scene.heard(scene.tor4) == {"10.244.7.0/24"} and not scene.heard(scene.tor6)
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_what_is_rejected_is_named() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        scene.datastore.reject("bad.yaml", "kind: is missing")
        await asyncio.sleep(1)
        assert "bad.yaml: kind: is missing" in scene.problems()
        assert scene.learned() == LEARNED

    simulate(scenario())


def test_a_cordoned_node_is_the_last_choice_and_then_serves_blocks_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB, node("n2", "10.244.2.0/24", addresses=("10.0.0.3",)))
        assert scene.heard(scene.tor4) == set(DRAINING)
        scene.datastore.apply(node("n1", *BLOCKS, unschedulable=True))
        await asyncio.sleep(2)
        assert scene.heard(scene.tor4) == set(DRAINING)
        assert all("65535:0" in line for line in scene.tor4.heard.values()), "RFC 8326"
        await asyncio.sleep(4)
        await scene.kill()
        scene.start()
        await asyncio.sleep(2)
        assert scene.heard(scene.tor4) == set(DRAINING), "the wait goes on where it was"
        await asyncio.sleep(4)
        assert scene.heard(scene.tor4) == {BLOCKS[0]}
        scene.datastore.apply(NODE)
        await asyncio.sleep(2)
        assert scene.heard(scene.tor4) == set(DRAINING)
        assert not [line for line in scene.tor4.heard.values() if "65535:0" in line]
        assert scene.sessions() == [["up"], ["up"]]

    simulate(scenario())


def test_a_node_that_leaves_withdraws_first_and_returns() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        scene.memory.leave = True
        await asyncio.sleep(40)
        assert scene.status()["drain"]["stage"] == "left"
        assert not scene.heard(scene.tor4) and not scene.heard(scene.tor6)
        assert [history[-1] for history in scene.sessions()] == ["closed: removed"] * 2 or all(
            "closed" in history[-1] for history in scene.sessions()
        )
        await scene.kill()
        scene.start()
        await asyncio.sleep(20)
        assert scene.status()["drain"]["stage"] == "left", "a new agent goes on where it was"
        scene.memory.leave = False
        await asyncio.sleep(10)
        assert scene.heard(scene.tor4) == set(DRAINING) and scene.learned() == LEARNED

    simulate(scenario())


@pytest.mark.parametrize("leaving", [True, False])
def test_a_stop_changes_nothing_unless_the_node_goes(leaving: bool) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        scene.memory.leave = leaving
        began = asyncio.get_running_loop().time()
        await scene.terminate()
        took = asyncio.get_running_loop().time() - began
        if leaving:
            assert not scene.heard(scene.tor4) and took > 10
        else:
            assert scene.heard(scene.tor4) == set(DRAINING) and scene.sessions() == [["up"], ["up"]]
            assert took < 1

    simulate(scenario())


def as_declared(seed: int) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        fate = Fate(scene, seed)
        for _ in range(8):
            await fate.happens()
        scene.datastore.apply(NODE, CONFIGURATION, TOR4, TOR6, *WEB)
        await asyncio.sleep(400)
        assert scene.learned() == LEARNED
        assert scene.heard(scene.tor4) == set(DRAINING) and scene.heard(scene.tor6) == {BLOCKS[1]}
        assert not [line for line in scene.tor4.heard.values() if "65535:0" in line]
        assert not scene.problems()
        assert not scene.firewall.broken and "10.96.0.10" in scene.firewall.text
        assert scene.pods.network is not None and len(scene.pods.network.blocks) == 2
        assert scene.kernel.bridge is not None and len(scene.kernel.bridge.gateways) == 2

    simulate(scenario())


@pytest.mark.parametrize("seed", [*range(40), 1613])
def test_whatever_happens_it_ends_as_declared(seed: int) -> None:
    """Worlds are lost and return in any order; a while after the last of it all is as it should be."""
    as_declared(seed)


@pytest.mark.soak
@pytest.mark.parametrize("hundred", range(40, 80))
def test_whatever_happens_for_longer(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            as_declared(seed)
        except AssertionError as err:
            raise AssertionError(f"seed {seed}") from err


def test_the_agent_of_a_node_without_peers_is_quiet() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.begun(NODE, configuration(), *WEB)
        passes, commands = scene.agent.passes, len(scene.speaker.commands)
        await asyncio.sleep(600)
        assert scene.agent.passes - passes <= 25, "the looks for drift"
        assert len(scene.speaker.commands) - commands < 200
        assert scene.learned() == set() and SIX not in scene.learned()

    simulate(scenario())
