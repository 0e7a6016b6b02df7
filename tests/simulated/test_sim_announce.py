"""A kind of announcement that is added by one row: agent, plan, `bgp announced` and drain follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest
from scene import BLOCKS, CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import configuration, endpoints, service
from simloop import simulate

from l3net.agent.exports import exports
from l3net.announce import sources
from l3net.announce.source import Announcement, NodeView, Source
from l3net.model import Prefix

AGGREGATE = ip_network("10.96.2.0/24")


def prefixes(view: NodeView) -> tuple[Prefix, ...]:
    """While one of its addresses is a service's."""
    return (AGGREGATE,) if any(each.subnet_of(AGGREGATE) for each in _four(view)) else ()


def _four(view: NodeView) -> Iterator[object]:
    return (each for each in view.service_prefixes if each.version == 4)  # type: ignore[misc]


def reasons(view: NodeView) -> Iterator[Announcement]:
    return (Announcement(each, "aggregate") for each in prefixes(view))


MADE = Source("aggregates", prefixes, reasons, mesh=False, of_services=True)


@pytest.mark.parametrize("follows", [True, False])
def test_a_source_that_looks_at_services_follows_them(monkeypatch: pytest.MonkeyPatch, follows: bool) -> None:
    """Without `of_services`, the control, a change of services alone is not its affair."""
    monkeypatch.setattr(sources, "SOURCES", (*sources.SOURCES, replace(MADE, of_services=follows)))
    web = (service("web", "10.96.2.9"), endpoints("web", "10.244.1.9"))

    async def scenario() -> None:
        scene = Scene()
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6)
        assert str(AGGREGATE) not in scene.heard(scene.tor4)
        scene.datastore.apply(*web)
        await asyncio.sleep(1)
        assert (str(AGGREGATE) in scene.heard(scene.tor4)) is follows
        told = {row["prefix"] for row in exports(scene.agent)["routes"] if row["kind"] == "aggregate"}
        assert told == {str(AGGREGATE)}
        scene.datastore.delete(web[0])
        await asyncio.sleep(1)
        assert str(AGGREGATE) not in scene.heard(scene.tor4)
        scene.datastore.apply(*web)
        await asyncio.sleep(1)
        scene.memory.leave = True
        await asyncio.sleep(40)
        assert not scene.heard(scene.tor4)

    simulate(scenario())


def test_who_passes_on_what_it_learned_speaks_as_soon_as_its_speaker_does() -> None:
    """Nothing is said before it is known what the peers say; that these say nothing is known at once."""

    async def scenario() -> None:
        scene = Scene()
        scene.tor4.announces.clear()
        scene.tor6.announces.clear()
        scene.speaker.running = False
        await scene.begun(NODE, configuration(**CONFIGURATION["spec"], transit=True), TOR4, TOR6, seconds=300)
        assert not scene.blocks_heard()
        scene.speaker._start()
        await asyncio.sleep(5)
        assert scene.blocks_heard() == set(BLOCKS)

    simulate(scenario())


@pytest.mark.parametrize("more", [True, False])
def test_what_comes_as_another_goes_is_served_before_it_is_announced(
    monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    """Also where all is looked at for it: withdrawals come first, and announcements are none of them."""
    monkeypatch.setattr(sources, "SOURCES", (*sources.SOURCES, replace(MADE, of_services=more)))
    one, other = (
        (service(name, address), endpoints(name, pod))
        for name, address, pod in (("one", "10.96.2.9", "10.244.1.9"), ("other", "10.96.2.10", "10.244.1.10"))
    )

    async def scenario() -> None:
        scene, order = Scene(), list[str]()
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6, *one)
        amend, heard = scene.firewall.amend, scene.speaker.heard

        def amended(text: str) -> None:
            order.append("served" if "10.96.2.10" in text else "")
            amend(text)

        def told(line: str) -> None:
            order.append("announced" if "announce" in line and "10.96.2.10" in line else "")
            heard(line)

        monkeypatch.setattr(scene.firewall, "amend", amended)
        monkeypatch.setattr(scene.speaker, "heard", told)
        scene.datastore.delete(one[0])
        scene.datastore.apply(*other)
        await asyncio.sleep(1)
        assert [each for each in order if each] == ["served", "announced"]

    simulate(scenario())
