"""A simulated cluster out of a seed: `draw` says what happens, `run` what did not hold.

python tests/simulated/cluster/cluster.py 1 200      # seeds, with what did not hold
python tests/simulated/cluster/cluster.py shrink 17  # the case of a seed, cut down
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":  # pytest has them on its path
    _TESTS = Path(__file__).parents[2]
    sys.path[:0] = [str(_TESTS / place) for place in ("simulated", "fakes", "kubeapi")]

from cluster_case import draw
from cluster_laws import Laws
from cluster_world import ClusterWorld
from simloop import SimLoop
from stepped import Broken, Case
from threads import SimThreads, simulate_threads

#: Seconds after the last fault within which all is as declared, and for which nothing happens then.
SETTLES = 330.0
QUIET = 60.0
#: More of them where etcd was restored while nobody could ask: until all is listed once more.
DOUBTED = 900.0


def run(case: Case) -> list[Broken]:
    """What did not hold. Nothing but the case decides."""
    collecting = gc.isenabled()
    gc.disable()  # what is left of a process ends when the world says so
    try:
        return simulate_threads(_run(case))
    finally:
        if collecting:
            gc.enable()


async def _run(case: Case) -> list[Broken]:
    loop = cast(SimLoop, asyncio.get_running_loop())
    threads = SimThreads(loop, case.seed)
    laws = Laws()
    world = ClusterWorld(threads, case.seed, laws.watch)
    laws.follow(world)
    began = loop.time()

    def step(what: str, *args: Any) -> None:
        before = laws.usable() if what == "restore" else None
        getattr(world, what)(*args)
        if before is not None:
            laws.restored(before)

    for each in case.steps:
        loop.call_at(began + each.at, step, each.what, *each.args)
    ends = began + max((_end(each.at, each.args) for each in case.steps), default=0.0)
    try:
        while loop.time() < ends + SETTLES and not laws.hot:
            await asyncio.sleep(10)
            world.keep_snapshot()
            laws.look()
        if not laws.hot:
            if world.restored and not laws.true_views():
                await asyncio.sleep(DOUBTED)
            laws.quiet_since = loop.time()
            await asyncio.sleep(QUIET)
            laws.end()
    finally:
        threads.close()
    for error in threads.errors:
        laws.broken("no thread ends by an error", repr(error))
    return laws.found


def _end(at: float, args: tuple[Any, ...]) -> float:
    """When a step has no effect any more, by the longest time that it names."""
    return at + max((each for each in args if isinstance(each, float) and 0 < each <= 300), default=0.0)


if __name__ == "__main__":
    from seeds_command import main

    main(sys.argv[1:], __doc__, draw, run)
