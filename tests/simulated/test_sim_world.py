"""Many whole agents, routers between them, and what may happen to all of it: seeds, and cases that seeds have
found. `python -m world --help` in tests/simulated tells how to hunt for more."""

from __future__ import annotations

import pytest
from world.case import Case, Shape, Step, pasted
from world.draws import draw
from world.run import run
from world.shrink import shrink

from l3net.agent.kernel import KernelSide


def holds(case: Case) -> None:
    broken = run(case)
    assert not broken, "\n".join([*map(str, broken), pasted(case)])


@pytest.mark.parametrize(
    "seed", [*range(1, 15), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(15, 37))]
)
def test_laws_hold_whatever_happens(seed: int) -> None:
    holds(draw(seed, most_nodes=6, steps=12))


FOUND = {
    "an agent that starts while links cannot be read": Case(
        seed=14,
        shape=Shape(services=1, pods=1),
        steps=(
            Step(at=601.02, what="agent_killed", args=(0, 3.0)),
            Step(at=601.03, what="kernel_fails", args=(0, 70.0)),
        ),
    ),
    "the last policy goes while counters cannot be read": Case(
        seed=34,
        shape=Shape(racks=3, spines=1, nodes=2, services=1, policies=True),
        steps=(
            Step(at=0.5, what="pod_deleted", args=(0,)),
            Step(at=0.51, what="kernel_fails", args=(4, 70.0)),
            Step(at=40.52, what="pod_deleted", args=(40,)),
        ),
    ),
    "a block that its node has lost, and pods in it": Case(
        seed=318,
        shape=Shape(nodes=2, services=1, pods=1),
        steps=(Step(at=10.0, what="block_lost", args=(0, 100.0)),),
    ),
    "a reflector whose agent is killed": Case(
        seed=31,
        shape=Shape(nodes=3, reflectors=True, services=1, pods=1),
        steps=(Step(at=100.0, what="agent_killed", args=(0, 0.2)),),
    ),
    "a router that restarts while a node's link is down": Case(
        seed=143,
        shape=Shape(spines=2, services=1, pods=1),
        steps=(
            Step(at=205.0, what="uplink_down", args=(0, 12.0)),
            Step(at=205.0, what="router_restarts", args=(38, 60.0, True)),
        ),
    ),
}


@pytest.mark.soak
def test_fifty_nodes() -> None:
    """Behind ten routers, with reflectors: as many as a seed has at most."""
    steps = (
        Step(1.0, "agent_killed", (0, 3.0)),
        Step(5.0, "router_restarts", (1, 8.0, True)),
        Step(60.0, "pod_added", (3,)),
        Step(61.0, "path_fails", (7, 40.0, "to")),
        Step(130.0, "node_off", (11, 20.0)),
    )
    holds(Case(1, Shape(racks=5, tors=2, spines=2, nodes=10, reflectors=True, pods=1), steps, quiet=200.0))


@pytest.mark.parametrize("name", FOUND)
def test_what_seeds_have_found_stays_mended(name: str) -> None:
    holds(FOUND[name])


def test_a_run_depends_on_its_case_alone() -> None:
    case = Case(7, Shape(hold=90, services=1), (Step(1.0, "uplink_down", (0, 100.0)),), quiet=120.0)
    assert run(case) == run(case)


def test_a_fault_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: an agent that never reads its routes back, in a world where somebody deletes one."""
    case = draw(6, most_nodes=6, steps=12)
    steps = (*case.steps, Step(50.0, "routes_deleted", (0, False)))
    holds(Case(3, case.shape, steps))
    monkeypatch.setattr(KernelSide, "read_routes", lambda _self: None)
    law = "what can be reached is"

    def breaks(case: Case) -> bool:
        return any(each.law == law for each in run(case))

    small = shrink(Case(3, Shape(nodes=2), steps), breaks, most=40)
    assert [step.what for step in small.steps] == ["routes_deleted"]


@pytest.mark.soak
@pytest.mark.parametrize("hundred", range(1, 41))
def test_laws_hold_whatever_happens_for_longer(hundred: int) -> None:
    for seed in range(50 * hundred, 50 * hundred + 50):
        holds(draw(seed))
