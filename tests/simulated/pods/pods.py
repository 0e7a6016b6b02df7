"""A node's pods out of a seed: `draw` says what happens, `run` what did not hold.

python tests/simulated/pods/pods.py 1 200      # seeds, with what did not hold
python tests/simulated/pods/pods.py shrink 17  # the case of a seed, cut down
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from pathlib import Path
from typing import cast

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent.parent)]

from pods_case import draw
from pods_laws import ROOM, Laws
from pods_world import PodsWorld
from simloop import SimLoop
from stepped import Broken, Case
from threads import SimThreads, simulate_threads

#: Seconds after the last fault after which GC is asked for, those that it and the audit have, and those in
#: which nothing happens then.
SETTLES = 140.0
COLLECTED = 150.0
QUIET = 130.0


def run(case: Case) -> list[Broken]:
    """What did not hold. Nothing but the case decides."""
    collecting = gc.isenabled()
    gc.disable()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of faults it says enough
    try:
        return simulate_threads(_run(case))
    finally:
        logging.disable(before)
        if collecting:
            gc.enable()


async def _run(case: Case) -> list[Broken]:
    loop = cast(SimLoop, asyncio.get_running_loop())
    threads = SimThreads(loop, case.seed)
    laws = Laws()
    world = PodsWorld(threads, case.seed, laws)
    laws.began = began = loop.time()
    for each in case.steps:
        loop.call_at(began + each.at, getattr(world, each.what), *each.args)
    ends = began + max((each.at for each in case.steps), default=0.0)
    try:
        while loop.time() < max(ends, laws.trouble_until) + SETTLES and not laws.hot:
            await asyncio.sleep(4)
            laws.look()
        if not laws.hot:
            world.machine.fuse = None
            laws.uncollected()
            world.start()
            world.collect("full")
            await asyncio.sleep(COLLECTED)
            laws.look()
            laws.end()
            before = laws.settled()
            await asyncio.sleep(QUIET)
            laws.look()
            if before != laws.settled() and len(world.runtime.wanted) <= ROOM:
                laws.broken("nothing is written while nothing happens", f"{before} -> {laws.settled()}")
    finally:
        threads.close()
        world.machine.close()
    for error in threads.errors:
        laws.broken("no thread ends by an error", repr(error))
    return laws.found


if __name__ == "__main__":
    from seeds_command import main

    main(sys.argv[1:], __doc__, draw, run)
