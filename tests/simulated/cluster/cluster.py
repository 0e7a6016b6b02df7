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

from cluster_case import Broken, Case, draw, printed, without
from cluster_laws import Laws
from cluster_world import ClusterWorld
from simloop import SimLoop
from threads import SimThreads, simulate_threads

#: Seconds after the last fault within which all is as declared, and for which nothing happens then.
SETTLES = 330.0
QUIET = 60.0
#: More of them where etcd was restored while nobody could ask: until all is listed once more.
DOUBTED = 900.0
#: Seeds under which a case with fewer steps is tried.
ORDERS = 4

__all__ = ["Broken", "Case", "draw", "printed", "run", "shrunk", "without"]


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


def shrunk(case: Case, laws: frozenset[str] | None = None) -> Case:
    """With as few steps as break one of the same laws still."""
    wanted = laws or frozenset(broken.law for broken in run(case))

    def breaks(one: Case) -> Case | None:
        """What is left out changes who is first; so a few orders are tried."""
        for order in range(ORDERS):
            other = Case(one.seed + order, one.steps)
            if wanted & {broken.law for broken in run(other)}:
                return other
        return None

    size = max(1, len(case.steps) // 2)
    while True:
        index = 0
        while index < len(case.steps):
            smaller = without(case, set(range(index, index + size)))
            if (found := breaks(smaller)) is not None:
                case = found
            else:
                index += size
        if size == 1:
            return case
        size = max(1, size // 2)


def _cut_down(case: Case) -> str:
    small = shrunk(case)
    return printed(small) + "\n" + "\n".join(map(str, run(small)))


if __name__ == "__main__":
    from seeds_command import main

    main(sys.argv[1:], __doc__, draw, run, _cut_down)
