"""What is kept of what an agent decides: who asks for what, how much it may be, and what a restart keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import pytest
from scene import CONFIGURATION, FOUR, Scene
from sim_node import configuration, endpoints, service
from simloop import simulate

from l3net.agent.recording import APART, MOST_GATHERED, Recording
from l3net.history.entry import Entry, EntryKind, entry_of
from l3net.history.ring import MOST, MOST_PREFIXES, Ring

ADDRESS = "10.96.2.9"


class Memory:
    """ports.HistoryMemory: rows as they would be written."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.full = False

    def now(self) -> float:
        return 1_700_000_000 + asyncio.get_running_loop().time()

    def read(self) -> list[Entry]:
        return [entry_of(json.loads(row)) for row in self.rows]

    def append(self, entries: Iterable[Entry]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.rows += [json.dumps(entry.row()) for entry in entries]


async def asked(recording: Recording, subject: str = "", **more: Any) -> list[tuple[str, ...]]:
    answer = await recording.answer(json.dumps({"subject": subject, "limit": 5000, **more}))
    return [tuple(row[key] for key in ("kind", "subject", "what")) for row in answer["entries"]]


class Kept(Scene):
    """Whose agent's decisions are kept."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.kept = memory

    def start(self) -> None:
        super().start()
        self.recording = Recording(self.agent, self.kept)
        self.writing = asyncio.create_task(self.recording.run())


async def begun(memory: Memory) -> tuple[Kept, Recording, asyncio.Task[None]]:
    scene = Kept(memory)
    await scene.ready()
    return scene, scene.recording, scene.writing


def test_a_service_that_loses_its_endpoints_is_told_of_with_decision_withdrawal_and_reason() -> None:
    async def scenario() -> None:
        memory = Memory()
        scene, recording, running = await begun(memory)
        web = service("web", ADDRESS), endpoints("web", "10.244.1.9")
        scene.datastore.apply(*web)
        await asyncio.sleep(1)
        scene.datastore.delete(web[1])
        await asyncio.sleep(1)
        told = await asked(recording, ADDRESS)
        assert ("service", "default/web", "decided") in told
        assert told.count(("announcement", f"{ADDRESS}/32", "announced")) == 1
        assert told.count(("announcement", f"{ADDRESS}/32", "withdrawn")) == 1
        last = (await recording.answer(json.dumps({"subject": ADDRESS})))["entries"][-1]
        assert last["peer"] == "tor4 (10.0.0.1)"
        assert last["reason"] == "default/web: noEndpoints"
        assert last["old"].startswith("via ")
        assert not last["new"]
        assert told == [row for row in told if row in await asked(recording)]
        assert not await asked(recording, "10.96.2.10")
        running.cancel()

    simulate(scenario())


def test_sessions_routes_drains_and_what_is_declared_are_told_of() -> None:
    async def scenario() -> None:
        scene, recording, running = await begun(Memory())
        assert ("session", "tor4", "established") in await asked(recording, "tor4")
        assert ("route", FOUR, "added") in await asked(recording, FOUR)
        assert ("route", FOUR, "added") in await asked(recording, "192.0.2.77"), "of a prefix that holds it"
        scene.datastore.apply(configuration(**CONFIGURATION["spec"], holdTime=30))
        await asyncio.sleep(2)
        changed = await recording.answer('{"subject": "default", "kinds": ["declared"]}')
        assert [(row["what"], row["reason"]) for row in changed["entries"]] == [("changed", "hold_time")]
        scene.memory.leave = True
        await asyncio.sleep(60)
        assert ("drain", "n1", "left") in await asked(recording)
        assert not await asked(recording, "tor9")
        running.cancel()

    simulate(scenario())


def test_what_is_written_down_is_known_to_the_next_agent_and_a_full_disk_costs_only_that() -> None:
    async def scenario() -> None:
        memory = Memory()
        scene, recording, running = await begun(memory)
        before = await asked(recording)
        assert await asked(Recording(scene.agent, memory)) == [*before, ("node", "n1", "agent started")]
        recording = Recording(scene.agent, memory)
        running.cancel()
        running = asyncio.create_task(recording.run())
        memory.full = True
        scene.datastore.apply(service("web", ADDRESS), endpoints("web", "10.244.1.9"))
        await asyncio.sleep(1)
        assert await asked(recording, "default/web")
        with pytest.raises(OSError, match="No space"):
            await running

    simulate(scenario())


def test_many_alike_are_one_entry_and_all_is_bounded() -> None:
    async def scenario() -> None:
        scene, recording, running = await begun(Memory())
        for number in range(1000):
            scene.tor4.route(f"198.51.{number // 250}.{number % 250}/32")
        scene.speaker.drop(scene.tor4)
        await asyncio.sleep(60)
        rows = (await recording.answer('{"kinds": ["route"], "limit": 5000}'))["entries"]
        assert sum(row["count"] for row in rows) >= 1000
        assert len(rows) < 60
        for number in range(MOST_GATHERED + 10):
            recording.note(EntryKind.NODE, str(number), "x")
        kept = recording.gather()
        assert len(kept) < APART
        assert sum(entry.count for entry in kept) == MOST_GATHERED + 10
        running.cancel()

    simulate(scenario())


def test_a_ring_holds_so_many_of_each_kind_and_names_so_many_prefixes() -> None:
    named = tuple(ip_network(f"10.0.{number}.0/24") for number in range(200))
    ring = Ring()
    ring.add(Entry(0.0, EntryKind.SESSION, "tor", "down"))
    for number in range(3 * MOST):
        ring.add(Entry(float(number), EntryKind.SERVICE, str(number), "decided"))
        ring.add(Entry(float(number), EntryKind.ROUTE, "many", "added", prefixes=named))
    found = list(ring.entries())
    assert [entry.subject for entry in found if entry.kind is EntryKind.SERVICE][-1] == str(3 * MOST - 1)
    assert sum(entry.kind is EntryKind.SERVICE for entry in found) == MOST
    assert sum(len(entry.prefixes) for entry in found) <= MOST_PREFIXES
    assert sum(entry.kind is EntryKind.SESSION for entry in found) == 1, "no room taken by what happens often"


def test_a_question_that_is_none_is_answered_with_an_error() -> None:
    async def scenario() -> None:
        _, recording, running = await begun(Memory())
        for text in ("[]", "{", '{"kinds": ["x"]}', '{"limit": "many"}', '{"since": []}'):
            assert "error" in await recording.answer(text), text
        running.cancel()

    simulate(scenario())
