"""A whole agent on a simulated node: services that every node answers alike, and the device they need."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from scene import Scene
from sim_node import configuration, endpoints, node, service
from simloop import simulate

from l3net.errors import KernelError, RefusedError
from l3net.firewall import ranking
from l3net.naming import ENVELOPE
from l3net.ports import LinkSeen, TableSeen

VIP = "203.0.113.7"
SLOTS = 256
OTHER = node("n2", "10.244.2.0/24", addresses=("10.0.0.3", "fd00::3"))
PODS = ("10.244.1.2", "10.244.1.3")
CONSISTENT = configuration(
    loadBalancing="Consistent", advertise={"externalIPs": {"enabled": True, "cidrs": ["203.0.113.0/24"]}}
)
RANDOM = configuration(advertise={"externalIPs": {"enabled": True, "cidrs": ["203.0.113.0/24"]}})


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "SIZES", ((16, SLOTS),))


def web(**annotations: str) -> dict[str, Any]:
    made = service("web", "10.96.0.10", externalIPs=[VIP])
    made["metadata"]["annotations"] = annotations
    return made


def slots(scene: Scene, name: str) -> set[str]:
    table = scene.firewall.table.beside.get("ip")
    return set() if table is None else {each for each in table.sets[name] if each.startswith(VIP)}


def test_the_device_and_its_tables_are_there_as_long_as_a_service_needs_them() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(RANDOM, OTHER, web(), endpoints("web", *PODS))
        assert scene.envelope.plan is None and not scene.firewall.table.beside
        scene.datastore.apply(CONSISTENT)
        await asyncio.sleep(1)
        assert scene.envelope.plan is not None
        assert [end.node for end in scene.envelope.plan.ends] == ["n2"]
        assert len(slots(scene, "here")) == SLOTS and not slots(scene, "owners")
        assert scene.status()["consistent"] == {"servers": 2, "slots": 2 * SLOTS, "short": 0}
        # An endpoint on the other node: its slots are handed on.
        moved = endpoints("web", *PODS, "10.244.2.9")
        moved["endpoints"][2]["nodeName"] = "n2"
        scene.datastore.apply(moved)
        await asyncio.sleep(1)
        assert len(slots(scene, "here")) + len(slots(scene, "owners")) == SLOTS
        assert SLOTS / 4 < len(slots(scene, "owners")) < SLOTS / 2.5
        assert len(slots(scene, "next")) == len(slots(scene, "here"))
        scene.datastore.apply(RANDOM)
        await asyncio.sleep(1)
        assert scene.envelope.plan is None and not scene.firewall.table.beside
        assert not scene.problems()

    simulate(scenario())


@pytest.mark.parametrize(("said", "there"), [("Consistent", True), ("Random", False), ("consistant", False)])
def test_a_service_says_for_itself(said: str, there: bool) -> None:
    async def scenario() -> None:
        scene = Scene()
        asked = web(**{"l3net.io/load-balancing": said})
        other = CONSISTENT if said == "Random" else RANDOM
        await scene.ready(other, OTHER, asked, endpoints("web", *PODS))
        assert bool(slots_or_none(scene)) is there

    simulate(scenario())


def slots_or_none(scene: Scene) -> set[str]:
    return slots(scene, "here") if scene.firewall.table.beside else set()


def test_a_device_that_somebody_deletes_is_made_anew_and_the_rules_name_the_new_one() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(CONSISTENT, OTHER, web(), endpoints("web", *PODS))
        amended = len(scene.firewall.amended)
        await asyncio.sleep(100)
        assert len(scene.firewall.amended) == amended  # the look for drift changes nothing
        scene.envelope.index += 1
        scene.kernel.notice(LinkSeen(ENVELOPE))
        await asyncio.sleep(0.2)
        assert any("delete table ip l3net" in text for text in scene.firewall.amended[amended:])
        assert len(slots(scene, "here")) == SLOTS

    simulate(scenario())


def test_without_the_device_services_are_served_as_ever_and_it_is_tried_again() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.envelope.failing = KernelError("l3nvx0: create", errno.EOPNOTSUPP)
        await scene.ready(CONSISTENT, OTHER, web(), endpoints("web", *PODS))
        assert not scene.firewall.table.beside and any("l3nvx0" in each for each in scene.problems())
        assert any(each.startswith(VIP) for each in scene.firewall.table.sets["services4"])
        scene.envelope.failing = None
        await asyncio.sleep(60)
        assert len(slots(scene, "here")) == SLOTS and not scene.problems()

    simulate(scenario())


def test_servers_that_change_while_the_tables_are_refused_are_not_forgotten() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(CONSISTENT, OTHER, web(), endpoints("web", *PODS))

        def refuses(text: str) -> RefusedError | None:
            return RefusedError("no", errno.EINVAL) if " ip l3net" in text else None

        scene.firewall.refuses = refuses
        scene.datastore.apply(endpoints("web", *PODS, "10.244.1.4"))
        await asyncio.sleep(1)
        assert any("10.244.1.4" in each for each in scene.firewall.table.sets["backends4"])
        assert not any("10.244.1.4" in each for each in slots(scene, "here"))
        assert any("handing" in each for each in scene.problems())
        scene.firewall.refuses = lambda _text: None
        await asyncio.sleep(60)
        assert any("10.244.1.4" in each for each in slots(scene, "here")) and not scene.problems()

    simulate(scenario())


def test_an_agent_that_is_killed_leaves_them_and_the_next_one_takes_them_over() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(CONSISTENT, OTHER, web(), endpoints("web", *PODS))
        before = slots(scene, "here")
        await scene.kill()
        assert scene.envelope.plan is not None
        scene.datastore.apply(RANDOM)
        scene.start()
        await asyncio.sleep(3)
        assert before and scene.envelope.plan is None and not scene.firewall.table.beside

    simulate(scenario())


@pytest.mark.parametrize("flushed", [True, False])
def test_where_the_table_is_gone_policies_do_not_wait_for_the_slots(
    flushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there but another than it was is replaced in one transaction."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(CONSISTENT, OTHER, web(), endpoints("web", *PODS))
        put: list[str] = []
        apply = scene.firewall.apply

        def applied(ruleset: str) -> None:
            put.append(ruleset)
            apply(ruleset)

        monkeypatch.setattr(scene.firewall, "apply", applied)
        if flushed:
            scene.firewall.flush()
        else:
            scene.firewall.broken = True
            scene.kernel.notice(TableSeen(7))
        await asyncio.sleep(1)
        assert ["table ip l3net {" in text for text in put] == ([False, True] if flushed else [True])
        assert all("chain policy-" in text and "from-pods" in text for text in put)
        assert len(slots(scene, "here")) == SLOTS

    simulate(scenario())
