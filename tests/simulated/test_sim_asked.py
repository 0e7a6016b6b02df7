"""What an agent answers about its peers and their routes, while it goes on."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest
from scene import BLOCKS, CONFIGURATION, FOUR, NODE, SIX, TOR4, TOR6, Scene
from simloop import simulate

from l3net.agent import ribs
from l3net.agent.completing import KINDS, MOST, completions
from l3net.agent.neighbors import neighbors
from l3net.agent.ribs import routes_answer
from l3net.bgp.verdict import Judgement, Verdict, meaning
from l3net.errors import ConfigError


async def asked(scene: Scene, **what: Any) -> list[dict[str, Any]]:
    head, name, rows = routes_answer(scene.agent, json.dumps(what) if what else "")
    assert (head, name) == ({}, "routes")
    return [row async for part in rows for row in part]


def test_routes_by_every_filter() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.tor4.route("192.0.0.0/8", None, 174)
        scene.tor4.route("192.0.2.128/25", None, 64512)  # our AS is in it
        scene.tor4.communities = [[65001, 7]]
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, seconds=20)

        async def prefixes(**what: Any) -> list[str]:
            return [row["prefix"] for row in await asked(scene, **what)]

        assert await prefixes() == ["192.0.0.0/8", FOUR, "192.0.2.128/25", SIX]
        assert await prefixes(peer="tor6") == [SIX] == await prefixes(peer="FD00::1")
        assert await prefixes(peer="nobody") == []
        (longest,) = await asked(scene, prefix="192.0.2.200")
        assert (longest["prefix"], longest["verdict"], longest["best"]) == (
            "192.0.2.128/25",
            "asPathLoop",
            False,
        )
        assert "RFC 4271" in longest["reason"]
        assert await prefixes(prefix="192.0.2.200", best=True) == [FOUR]
        assert await prefixes(prefix="192.9.9.9") == ["192.0.0.0/8"]
        assert await prefixes(prefix="10.9.9.9") == [] == await prefixes(prefix="192.0.2.0/25")
        assert await prefixes(prefix=FOUR) == [FOUR]
        assert await prefixes(prefix=FOUR, longer=True) == [FOUR, "192.0.2.128/25"]
        assert await prefixes(rejected=True) == ["192.0.2.128/25"]
        assert await prefixes(best=True) == ["192.0.0.0/8", FOUR, SIX]
        assert await prefixes(community="65001:7", asPath="174") == ["192.0.0.0/8"]
        assert await prefixes(asPath="^65001$") == [FOUR, SIX]
        (row,) = await asked(scene, prefix="192.0.0.0/8")
        assert row["asPath"] == [65001, 174] and row["asPathText"] == "65001 174" and row["reason"] == ""
        assert row["communities"] == ["65001:7"] and row["origin"] == "igp"

    simulate(scenario())


def test_what_peers_hear_as_they_read_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        rows = await asked(scene, advertised=True)
        assert {(row["name"], row["prefix"]) for row in rows} == {("tor4", BLOCKS[0]), ("tor6", BLOCKS[1])}
        assert {row["state"] for row in rows} == {"sent"}
        assert {tuple(row["asPath"]) for row in rows} == {(64512,)}
        assert [row["prefix"] for row in await asked(scene, advertised=True, prefix="10.244.1.9")] == [
            BLOCKS[0]
        ]
        assert await asked(scene, advertised=True, asPath="_1_") == []
        scene.speaker.drop(scene.tor4, "gone", back=False)
        await asyncio.sleep(1)
        states = {row["name"]: row["state"] for row in await asked(scene, advertised=True)}
        assert states == {"tor4": "sessionDown", "tor6": "sent"}

    simulate(scenario())


def test_a_long_answer_holds_nobody_up_and_changes_meanwhile() -> None:
    async def scenario() -> None:
        scene = Scene()
        for number in range(3000):
            scene.tor4.route(f"100.{64 + number // 256}.{number % 256}.0/24")
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, seconds=20)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        _, _, rows = routes_answer(scene.agent, "")
        parts = []
        async for part in rows:
            parts.append(part)
            if len(parts) == 1:  # half of it goes while it is told
                scene.agent.rib.drop(ip_address("10.0.0.1"))
        turning.cancel()
        assert sum(map(len, parts)) == 3002
        assert max(map(len, parts)) <= ribs.AT_ONCE and turns >= 2 * 3000 // ribs.AT_ONCE

    simulate(scenario())


@pytest.mark.parametrize("question", ["[]", "{", "[" * 5000, '{"prefix": "nonsense"}'])
def test_a_wrong_question_is_told_and_nothing_else(question: str) -> None:
    with pytest.raises(ConfigError):
        ribs.filter_of(question)


def test_neighbors_with_their_counters() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)
        answer = await neighbors(scene.agent)
        assert (answer["node"], answer["asNumber"], answer["prefixes"]) == ("n1", 64512, 2)
        rows = {row["name"]: row for row in answer["neighbors"]}
        assert rows["tor4"]["byFamily"] == {"IPv4": {"received": 1, "wanted": 1}}
        assert rows["tor4"]["messages"] is None, "the speaker is older"
        scene.speaker.counts = {"sent": {"open": 1, "update": 3}, "received": {"open": 1}}
        rows = {row["name"]: row for row in (await neighbors(scene.agent))["neighbors"]}
        assert rows["tor6"]["messages"] == scene.speaker.counts
        scene.speaker.deaf = True  # who looks does not wait for ever
        assert len((await neighbors(scene.agent))["neighbors"]) == 2

    simulate(scenario())


def test_every_refusal_has_words() -> None:
    assert [each for each in Verdict if not meaning(Judgement(each))] == [Verdict.ACCEPTED]


def test_names_for_who_types() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(seconds=20)

        async def names(begin: str, *kinds: str) -> list[str]:
            found: list[str] = (await completions(scene.agent, json.dumps({"kinds": kinds, "begin": begin})))[
                "names"
            ]
            return found

        assert await names("", "peers") == ["10.0.0.1", "fd00::1", "tor4", "tor6"]
        assert await names("tor", "peers") == ["tor4", "tor6"]
        assert await names("", "prefixes") == sorted([FOUR, SIX, *BLOCKS])
        assert await names("", "nodes") == ["n1"]
        assert await names("", *set(KINDS) - {"peers", "prefixes", "nodes", "declared"}) == []
        assert await names("", "declared") == ["default", "n1", "tor4", "tor6"]
        for number in range(MOST + 5):
            scene.tor4.route(f"100.64.{number}.0/24")
        scene.speaker.say(scene.tor4, *scene.tor4.announces)
        await asyncio.sleep(1)
        assert len(await names("100.", "prefixes")) == MOST
        for wrong in ("", "[]", '{"kinds": ["secrets"]}', '{"kinds": 3}', "[" * 9000):
            assert "error" in await completions(scene.agent, wrong)

    simulate(scenario())
