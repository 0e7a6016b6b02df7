"""An agent to which nothing happens: how seldom it wakes up, and how soon it is awake when something does."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from scene import BLOCKS, Scene
from sim_node import configuration, node
from simloop import SimLoop, simulate

from l3net.agent.speaker.speaking import ASK_EVERY, ASK_QUEUES
from l3net.bgp.exabgp import commands

#: Moments in a minute: kube-proxy's ports 20 times, the routes for the next agent 12. All else is looked at
#: in one of these: counters, ExaBGP, drift.
MOST = 30


class _Asked:
    """When ExaBGP is asked for its queues."""

    def __init__(self, scene: Scene) -> None:
        self._heard, self._now = scene.speaker.heard, asyncio.get_running_loop().time
        self.times: list[float] = []
        scene.speaker.heard = self._hear  # type: ignore[method-assign]

    def _hear(self, line: str) -> None:
        if line == commands.SHOW_QUEUES:
            self.times.append(self._now())
        self._heard(line)


class _Moments:
    """At which times the loop had something to do."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self._select, self._selector = loop._simulated.select, loop._simulated
        self.count = 0
        self._selector.select = self._counting  # type: ignore[method-assign]

    def _counting(self, timeout: float | None = None) -> list[Any]:
        self.count += timeout is not None and timeout > 0.001
        return self._select(timeout)


def test_an_idle_agent_wakes_up_seldom() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(300)
        moments = _Moments()
        await asyncio.sleep(600)
        assert moments.count / 10 < MOST

    simulate(scenario())


@pytest.mark.parametrize("after", [0.0, 0.3, 3.7, 9.9])
def test_a_wish_to_leave_is_served_at_once(after: float) -> None:
    """Whatever the moment: nobody looks for it in turns. And its end as soon."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(300 + after)
        for leave in (True, False):
            scene.memory.leave = leave
            await asyncio.sleep(0.1)
            assert (scene.status()["drain"].get("cause") == "leave") is leave

    simulate(scenario())


def test_a_node_that_has_withdrawn_all_leaves_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(configuration(drain={"wait": 10}))
        await asyncio.sleep(300.3)
        scene.memory.leave = True
        await asyncio.sleep(10.1)
        assert not scene.blocks_heard(), "withdrawn"
        assert scene.status()["drain"]["stage"] == "withdrawn"
        await asyncio.sleep(0.5)
        assert scene.status()["drain"]["stage"] == "left"

    simulate(scenario())


@pytest.mark.parametrize("after", [0.0, 0.3, 3.7, 9.9])
def test_what_was_said_is_asked_after_within_a_second(after: float) -> None:
    """A peer that does not read is told of in the status after 15 s of that."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(300 + after)
        asked, began = _Asked(scene), asyncio.get_running_loop().time()
        scene.datastore.apply(node("n1", *BLOCKS, "10.244.2.0/24"))
        await asyncio.sleep(ASK_QUEUES + 0.2)
        assert "10.244.2.0/24" in scene.heard(scene.tor4)
        assert [each for each in asked.times if each > began]

    simulate(scenario())


def test_while_nothing_is_said_it_is_asked_now_and_then() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        await asyncio.sleep(300)
        asked = _Asked(scene)
        await asyncio.sleep(10 * ASK_EVERY)
        assert 9 <= len(asked.times) <= 11
        gaps = [later - earlier for earlier, later in pairwise(asked.times)]
        assert max(gaps) < ASK_EVERY + 0.1

    simulate(scenario())
