"""Seeds of one simulation, one after another, with whatever l3net comes first on the path.

python tests/mutations/hunted.py WORLD SECONDS [FIRST]  from a seed on, until a law is broken or the time over
python tests/mutations/hunted.py WORLD 0 SEED           this seed alone

Answers with a line of JSON: how many seeds were run, the CPU seconds that it took, and what was broken.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).parents[1]
#: CPU seconds in which one seed is over, ten times what the longest takes.
ENDS: Final = 60

#: What a seed breaks: law, and how.
Broken = list[tuple[str, str]]


class EndlessError(BaseException):
    """Of no Exception: nobody may go on after it."""


def world(seed: int) -> Broken:
    """Many nodes behind routers."""
    from world.draws import draw
    from world.run import run

    # Tales, small worlds in which little happens, of which there are many, and a larger one now and then.
    case = draw(seed, most_nodes=6) if seed % 8 == 6 else draw(seed, most_nodes=3, steps=9)
    return [(each.law, str(each)) for each in run(case)]


def cluster(seed: int) -> Broken:
    """Controllers and a datastore before an API server."""
    from cluster import run
    from cluster_case import draw

    return [(each.law, str(each)) for each in run(draw(seed))]


def state(seed: int) -> Broken:
    """One node, and what is declared."""
    from test_sim_policy import as_declared as policies
    from test_sim_state import as_declared

    (policies if seed % 2 else as_declared)(seed // 2)
    return []


#: What a seed of packets breaks, by its kind.
_PACKETS: Final = (
    "history does not matter",
    "services are what the documents say",
    "policies are what the verdict says",
    "",
    "of rivals the older answers",
    "clients come back to their endpoint",
)


def packets(seed: int) -> Broken:
    """Packets on one node or two, against what documents, truth tables and verdict say."""
    from test_packets_laws import (
        called_by_documents,
        clients_come_back,
        edges_hold,
        history_does_not_matter,
        judged_as_said,
        rivals_answer,
        test_policies_are_what_the_suites_say,
    )

    number, kind = divmod(seed, 6)
    if seed == 9:
        test_policies_are_what_the_suites_say()
    found: list[str] = []
    match kind:
        case 0:
            history_does_not_matter(number)
        case 1:
            found = called_by_documents([number, number + 1], 25)
        case 2:
            found = judged_as_said(range(4 * number, 4 * number + 4))
        case 3:
            return edges_hold(number)
        case 4:
            found = rivals_answer(number)
        case 5:
            found = clients_come_back(number)
    return [(_PACKETS[kind], found[0])] if found else []


def pods(seed: int) -> Broken:
    """Pods that come and go on one node, with disk, calls and kernel."""
    from pods import run
    from pods_case import draw

    return [(each.law, str(each)) for each in run(draw(seed))]


#: What a failed assertion of these breaks, as their tests call it.
LAWS: Final = {"state": "ends as declared", "packets": "history does not matter"}
WORLDS: Final[dict[str, Callable[[int], Broken]]] = {
    each.__name__: each for each in (world, cluster, state, packets, pods)
}


def one(name: str, seed: int) -> Broken:
    """What a seed of a simulation breaks. A simulation that ends by an error breaks a law, too."""
    run = WORLDS[name]
    signal.setitimer(signal.ITIMER_VIRTUAL, ENDS)
    try:
        return run(seed)
    except EndlessError:
        return [("a run ends", f"not within {ENDS} s of CPU time")]
    except AssertionError as err:
        return [(LAWS.get(name, "an assertion holds"), str(err)[:300])]
    except Exception as err:
        return [("nothing is unforeseen", f"{type(err).__name__}: {err}"[:300])]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def hunt(name: str, seconds: float, seeds: Iterable[int]) -> dict[str, Any]:
    """Until a seed breaks something or the time is over."""
    ran = 0
    began = time.process_time()
    for seed in seeds:
        broken = one(name, seed)
        ran += 1
        took = time.process_time() - began
        if broken:
            return {"seeds": ran, "cpu": took, "seed": seed, "law": broken[0][0], "what": broken[0][1]}
        if seconds and took > seconds:
            break
    return {"seeds": ran, "cpu": time.process_time() - began, "seed": None, "law": "", "what": ""}


def _ended(*_: object) -> None:
    raise EndlessError


def main() -> None:
    """The command."""
    simulated = TESTS / "simulated"
    rooms = [each for each in (*TESTS.iterdir(), *simulated.iterdir()) if each.is_dir()]
    sys.path[1:1] = [str(each) for each in sorted(rooms) if not each.name.startswith("__")]
    logging.disable(logging.CRITICAL) if sys.argv[1] != "world" else logging.lastResort and _quiet()
    signal.signal(signal.SIGVTALRM, _ended)
    import l3net

    seconds, first = float(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0
    found = hunt(sys.argv[1], seconds, count(first) if seconds else [first]) | {
        "l3net": str(Path(l3net.__file__).parent)
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _quiet() -> None:
    """The world hears records of the log itself."""
    logging.getLogger("l3net").propagate = False
    logging.getLogger("l3net").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
