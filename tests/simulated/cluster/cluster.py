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
from cluster_views import GRACE
from cluster_world import ClusterWorld
from simloop import SimLoop
from stepped import Broken, Case, Step
from threads import SimThreads, simulate_threads

#: Seconds after the last fault within which all is as declared, those after which it may be, looks at which
#: nothing was left to be done then, and seconds for which nothing happens after that.
SETTLES = 330.0
SOONEST = 60.0
LOOKS = 3
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
        before, version = (laws.usable(), world.etcd.version) if what == "restore" else (None, 0)
        laws.timely.struck(what, args)
        getattr(world, what)(*args)
        if before is not None:
            laws.restored(before)
            laws.timely.restored(version - world.etcd.version)

    for each in case.steps:
        loop.call_at(began + each.at, step, each.what, *each.args)
    ends = began + max(map(_end, case.steps), default=0.0)
    rests = 0
    try:
        while loop.time() < ends + SETTLES and rests < LOOKS and not laws.hot:
            await asyncio.sleep(10)
            world.keep_snapshot()
            laws.look()
            if loop.time() > ends + SOONEST:
                rests = rests + 1 if laws.timely.at_rest() else 0
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


def _end(step: Step) -> float:
    """When it has no effect any more, by the longest time that it names."""
    longest = max((each for each in step.args if isinstance(each, float) and 0 < each <= 300), default=0.0)
    return step.at + longest + {"node_swap": GRACE, "stop": 20.0}.get(step.what, 0.0)


if __name__ == "__main__":
    from seeds_command import main

    main(sys.argv[1:], __doc__, draw, run)
