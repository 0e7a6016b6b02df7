"""Connections are followed while somebody asks, by names, within bounds, and no longer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

from scene import Scene
from sim_node import endpoints, service
from simloop import simulate

from l3net.agent.flowing import KEPT, QUIET, Flowing
from l3net.explain.flows import Tracked
from l3net.ports import Began, FlowBatch

ADDRESS = "10.96.2.9"


class Log:
    """A ports.FlowLog of what a test says."""

    problem = ""

    def __init__(self) -> None:
        self.heard: Callable[[FlowBatch], None] | None = None

    def start(self, heard: Callable[[FlowBatch], None]) -> None:
        self.heard = heard

    def stop(self) -> None:
        self.heard = None

    def tell(self, *seen: Tracked, told: int | None = None, lost: int = 0) -> None:
        assert self.heard is not None
        began = [Began(1000.0 + place, each, 40000 + place) for place, each in enumerate(seen[:told])]
        self.heard(FlowBatch(began, Counter(seen), 0, lost))


def call(source: str, destination: str = ADDRESS, answers: str = "10.244.1.9") -> Tracked:
    ends = ip_address(source), ip_address(destination), 80, ip_address(answers), 8080
    return Tracked(6, *ends, ip_address(source))


async def begun() -> tuple[Flowing, Log, Scene]:
    scene = Scene()
    await scene.ready()
    scene.datastore.apply(service("web", ADDRESS), endpoints("web", "10.244.1.9"))
    await asyncio.sleep(1)
    log = Log()
    return Flowing(scene.agent, log), log, scene


def test_connections_are_told_by_names_and_counted() -> None:
    async def scenario() -> None:
        flowing, log, _ = await begun()
        found = await flowing.answer("")
        assert (found["flows"], found["kinds"], log.heard is not None) == ([], [], True)
        log.tell(call("198.51.100.7"), call("198.51.100.7"), call("198.51.100.8"), told=1, lost=2)
        found = await flowing.answer('{"after": 0}')
        (row,) = found["flows"]
        assert (row["service"], row["port"], row["toPort"]) == ("default/web", 80, 8080)
        assert [(kind["source"], kind["connections"]) for kind in found["kinds"]] == [
            ("198.51.100.7", 2),
            ("198.51.100.8", 1),
        ]
        assert found["lost"] == 2
        assert (await flowing.answer(f'{{"after": {row["serial"]}}}'))["flows"] == []

    simulate(scenario())


def test_nobody_is_listened_to_while_nobody_asks() -> None:
    async def scenario() -> None:
        flowing, log, _ = await begun()
        assert log.heard is None
        await flowing.answer("")
        for _ in range(3):
            await asyncio.sleep(QUIET - 1)
            log.tell(call("198.51.100.7"))
            last = await flowing.answer("")
        assert flowing.following
        await asyncio.sleep(QUIET + 1)
        assert (flowing.following, log.heard) == (False, None)
        again = await flowing.answer("")
        assert (again["flows"], again["kinds"]) == ([], [])
        log.tell(call("198.51.100.7"))
        (row,) = (await flowing.answer(""))["flows"]
        assert row["serial"] > last["flows"][-1]["serial"], "who asks for what is new misses nothing"

    simulate(scenario())


def test_what_is_kept_is_bounded() -> None:
    async def scenario() -> None:
        flowing, log, _ = await begun()
        await flowing.answer("")
        many = [
            call(f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}") for number in range(9000)
        ]
        log.tell(*many)
        found = await flowing.answer("")
        assert len(found["flows"]) == KEPT
        assert sum(kind["connections"] for kind in found["kinds"]) <= 100
        assert found["more"] == 9000 - 2000
        for wrong in ("[]", "{", '{"after": "x"}'):
            assert "error" in await flowing.answer(wrong)

    simulate(scenario())
