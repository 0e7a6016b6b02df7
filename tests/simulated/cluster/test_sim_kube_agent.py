"""The whole agent of a node over the real datastore, threads and all, and a model of an API server."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from fate import WEB
from kube_backed import KubeBacked
from scene import BLOCKS, LEARNED, Scene
from sim_api import SimApi
from sim_faults import Refusal
from sim_node import service
from simloop import SimLoop
from threads import SimThreads, simulate_threads


class KubeScene(Scene):
    """With a datastore over an API."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.threads = SimThreads(cast(SimLoop, asyncio.get_running_loop()), seed)
        self.api = SimApi(self.threads, seed)
        self.datastore = KubeBacked(self.api, "n1")  # type: ignore[assignment]

    async def end(self) -> None:
        await self.kill()
        self.threads.close()
        assert not self.threads.errors

    def announced(self) -> bool:
        return "10.96.0.10/32" in self.heard(self.tor4)


def test_an_agent_follows_an_api_server() -> None:
    async def scenario() -> None:
        scene = KubeScene(1)
        await scene.ready(*WEB, seconds=5)
        assert scene.announced()
        scene.datastore.delete(WEB[1])
        await asyncio.sleep(2)
        assert not scene.announced()
        scene.datastore.apply(WEB[1])
        await asyncio.sleep(2)
        assert scene.announced()
        await scene.kill()
        await asyncio.sleep(1)
        scene.start()
        await asyncio.sleep(8)
        assert scene.announced()
        assert scene.sessions() == [["established"]] * 2 or all(scene.sessions())
        await scene.end()

    simulate_threads(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_an_api_server_does_takes_a_route(seed: int) -> None:
    """An hour of one fault after the other: no route is lost, no session ends, and what is declared comes."""

    async def scenario() -> None:
        scene = KubeScene(seed)
        await scene.ready(*WEB, seconds=5)
        sessions, faults, now = scene.sessions(), scene.api.faults, scene.threads.loop.time
        begun = scene.api.etcd.snapshot()
        lost: list[object] = []

        async def watching() -> None:
            while True:
                await asyncio.sleep(0.5)
                if scene.learned() != LEARNED or scene.blocks_heard() != set(BLOCKS) or not scene.announced():
                    lost.append((now(), scene.learned(), scene.blocks_heard(), scene.announced()))

        looking = asyncio.create_task(watching())
        for number in range(12):
            until = now() + 100
            match number:
                case 0:
                    faults.refused_until = until
                    scene.datastore.fail()
                case 1:
                    faults.lost_until = until
                case 2:
                    faults.refusals.append(Refusal(until, 429, retry_after="5"))
                case 3:
                    faults.refusals.append(Refusal(until, 500, share=0.5))
                case 4:
                    faults.refusals.append(Refusal(until, 403, plural="services"))
                case 5:
                    faults.refusals.append(Refusal(until, 401))
                case 6:
                    faults.refusals.append(Refusal(until, 410, "watch"))
                case 7:
                    faults.spoiling.append((until, "torn", ""))
                case 8:
                    faults.slow.append((until, 1.0, 40.0))
                case 9:
                    faults.torn.append((until, 0.7))
                case 10:
                    scene.api.etcd.compact()
                    scene.datastore.fail()
                case 11:
                    scene.api.restore(begun)
            await asyncio.sleep(50)
            scene.datastore.apply(service(f"more{number}", f"10.96.1.{number}"))
            await asyncio.sleep(250)
        looking.cancel()
        assert lost == []
        assert scene.sessions() == sessions
        assert {name.name for name in scene.agent.declared.state.services} == {"web", "more11"}
        await scene.end()

    simulate_threads(scenario())
