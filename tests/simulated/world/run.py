"""A case from its beginning to its end."""

from __future__ import annotations

import asyncio
import logging

from simloop import simulate

from world import hardships as _hard
from world import oddities as _more
from world.calm import calm
from world.case import Broken, Case, Step
from world.happenings import HAPPENINGS
from world.laws import Judge, Quiet, Unforeseen
from world.world import World

#: Seconds until a world has come up, and between two looks at it.
COMES_UP = 40.0
LOOKS = 5.0
#: A world that is calm, and in which nothing has changed, is looked at one time of so many.
SELDOM = 8
#: The last seconds of the quiet time, in which nothing may be done at all.
IDLE = 100.0


assert _more.happening and _hard.happening  # what they add to HAPPENINGS


async def _steps(world: World, judge: Judge, steps: tuple[Step, ...]) -> None:
    began = world.now()
    running = []
    for step in sorted(steps, key=lambda each: each.at):
        await asyncio.sleep(max(0.0, began + step.at - world.now()))
        running.append(asyncio.create_task(HAPPENINGS[step.what](world, *step.args), name=step.what))
        await asyncio.sleep(0)
    for task in running:
        await task
    judge.look()


async def _looks(world: World, judge: Judge) -> None:
    before, same = world.changes, 0
    while True:
        await asyncio.sleep(LOOKS)
        now = world.changes
        same = same + 1 if now == before and calm(world) else 0
        before = now
        if same < 2 or same % SELDOM == 0:
            judge.look()


async def _live(case: Case) -> tuple[list[Broken], float]:
    world = World(case.shape, case.seed)
    judge = Judge(world, case.seed)
    world.excuse_all(COMES_UP)
    handler = Unforeseen(judge)
    logger = logging.getLogger("l3net")
    logger.addHandler(handler)
    try:
        world.begin()
        await asyncio.sleep(COMES_UP / 2)
        for _ in range(case.shape.pods):
            await asyncio.gather(*map(world.add_pod, world.nodes))
        await asyncio.sleep(COMES_UP / 2)
        judge.weigh()
        looks = asyncio.create_task(_looks(world, judge))
        await _steps(world, judge, case.steps)
        await asyncio.sleep(case.quiet - IDLE)
        quiet = Quiet(world)
        await asyncio.sleep(IDLE)
        looks.cancel()
        judge.at_the_end()
        if what := quiet.since(world):
            judge.broken("what has converged is quiet", what)
        return judge.found, world.now() - 1000
    finally:
        logger.removeHandler(handler)
        for node in world.nodes.values():
            if node.running:
                await node.kill()


def live(case: Case) -> tuple[list[Broken], float]:
    """What a case breaks, and how long it lasted, in simulated seconds."""
    return simulate(_live(case))


def run(case: Case) -> list[Broken]:
    """What a case breaks."""
    return live(case)[0]
