"""What an agent does grows with the cluster no faster than the cluster: operations are counted, not timed.

An operation is a call of a function, Python's or the interpreter's own, while the simulated agent works.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import scaling_path  # noqa: F401 - for the next but one
from scaling import cluster
from scene import TOR4, TOR6, Scene
from sim_node import configuration, node
from simloop import simulate

from l3net.bgp.exabgp import configuration as exabgp
from l3net.bgp.session import Session
from l3net.shell.kubernetes.freshness import OFTEN, SELDOM, Freshness

FEW, MANY = 100, 200
#: Twice the nodes may cost twice the operations, and logarithms beside.
GROWTH = 2.25
NOTHING = 1.1


class Count:
    calls = 0


@contextmanager
def counted() -> Iterator[Count]:
    count = Count()

    def called(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            count.calls += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield count
    finally:
        sys.setprofile(before)


def labelled(number: int) -> dict[str, Any]:
    document = cluster.node(number)
    document["metadata"]["labels"]["changed"] = "yes"
    return document


def moved(number: int) -> dict[str, Any]:
    document = cluster.service(number)
    document["spec"]["ports"][0]["port"] = 81
    return document


def costs(nodes: int, **spec: Any) -> dict[str, int]:
    """Operations of the first sync, and of one change of each sort."""

    async def run() -> dict[str, int]:
        rig = Scene()
        rig.datastore.apply(
            node("n1", "10.244.1.0/24", "fd00:244:1::/120"), configuration(**spec), TOR4, TOR6
        )
        rig.datastore.apply(*map(cluster.node, range(nodes)), *map(cluster.service, range(nodes)))
        for family in ("IPv4", "IPv6"):
            rig.datastore.apply(*(cluster.endpoint_slice(each, family, nodes) for each in range(nodes)))
        found = {}
        with counted() as count:
            rig.start()
            await asyncio.sleep(5)
        found["sync"] = count.calls
        assert rig.agent.passes
        for what, document in (
            ("node", labelled(5)),
            ("new node", cluster.node(nodes)),
            ("service", moved(7)),
            ("slice", cluster.endpoint_slice(7, "IPv6", nodes, 1)),
        ):
            await asyncio.sleep(31.3)
            passes = rig.agent.passes
            with counted() as count:
                rig.datastore.apply(document)
                await asyncio.sleep(0.7)
            assert rig.agent.passes > passes
            found[what] = count.calls
        return found

    return simulate(run())


TOPOLOGIES: dict[str, dict[str, Any]] = {
    "routers": {"nodeToNodeMesh": False},
    "mesh": {"nodeToNodeMesh": True},
    "reflectors": {"nodeToNodeMesh": True, "topology": "RouteReflectors"},
}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_twice_the_cluster_is_at_most_twice_the_work(topology: str) -> None:
    few, many = (costs(nodes, **TOPOLOGIES[topology]) for nodes in (FEW, MANY))
    grown = {what: many[what] / few[what] for what in few}
    assert {what for what, growth in grown.items() if growth > GROWTH} == set(), grown
    if topology != "mesh":  # there each session is asked whether it waits
        assert {what for what in ("service", "slice") if grown[what] > NOTHING} == set(), grown


def test_the_square_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a session's block that is compared with those of all others."""
    whole = exabgp.Blocks.of

    def slow(blocks: exabgp.Blocks, session: Session) -> str:
        for other, _ in list(blocks._made.values()):
            whole(blocks, other)
        return whole(blocks, session)

    monkeypatch.setattr(exabgp.Blocks, "of", slow)
    few, many = (costs(nodes, nodeToNodeMesh=True)["node"] for nodes in (20, 40))
    assert many / few > GROWTH


def test_a_change_of_one_node_renders_no_other_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a mesh each look at what is declared asked for every neighbour's block nine times."""
    made: list[Any] = []
    real = exabgp.neighbor
    monkeypatch.setattr(exabgp, "neighbor", lambda session: made.append(session) or real(session))

    async def run() -> tuple[int, int]:
        rig = Scene()
        own = node("n1", "10.244.1.0/24")
        await rig.begun(own, configuration(nodeToNodeMesh=True), *map(cluster.node, range(20)), seconds=31.5)
        made.clear()
        rig.datastore.apply(labelled(5))
        await asyncio.sleep(0.7)
        changed = len(made)
        rig.datastore.apply(cluster.node(20))
        await asyncio.sleep(0.7)
        return changed, len(made) - changed

    assert simulate(run()) == (0, 2)


def test_blocks_of_sessions_that_are_gone_are_forgotten() -> None:
    from bgp_facts import session

    blocks = exabgp.Blocks()
    kept, gone = session("10.0.0.1"), session("10.0.0.2", password=b"secret")
    assert [blocks.of(each) for each in (kept, gone)] == [exabgp.neighbor(each) for each in (kept, gone)]
    blocks.keep({kept.peer_address})
    assert set(blocks._made) == {kept.peer_address}


@pytest.mark.parametrize(
    ("objects", "longer"), [(0, 1), (OFTEN, 1), (2 * OFTEN, 2), (10 * OFTEN, 10), (1_000_000, SELDOM)]
)
def test_large_collections_are_listed_anew_more_seldom(objects: int, longer: float) -> None:
    """Octets a second and agent stay the same, however large the cluster."""
    now = [0.0]
    threads: Any = SimpleNamespace(monotonic=lambda: now[0], random=Random(1))
    fresh = Freshness((2400.0, 4800.0), threads)
    fresh.listed(objects)
    now[0] = 2400.0 * longer - 1
    assert not fresh.due
    now[0] = 4800.0 * longer + 1
    assert fresh.due
