"""What happens to a node's pods, as values: drawn out of a seed, printed, and cut down by dropping steps.

A step's name is that of a method of `pods_world.PodsWorld`; what it speaks of need not be there, so that any
steps may be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stepped import Argument, Case, Step

#: Seconds in which everything happens; faults may last for some more.
HAPPENS = 240
PODS = tuple(f"p{number}" for number in range(8))
BEGINNING = (
    Step(0, "start"),
    *(Step(2.5 + number / 10, "pod", (name,)) for number, name in enumerate(PODS[:4])),
)
#: Of the operations that the kernel refuses one by one.
REFUSED = ("link", "delete link", "address", "route", "neighbour", "nft", "elements", "elements")
#: Faults, and what meets them while they last.
MEETINGS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("unsent", "interrupted", "lost_answer"), ("kill", "stop")),
    (("refuse", "unsent"), ("pod_gone", "collect", "dies", "again")),
    (("full", "io", "read_only", "locked"), ("kill", "stop", "kill_at")),
    (("slow_disk", "slow_kernel"), ("kill_at", "power_at", "impatient", "collect")),
    (("refuse nft", "interrupted"), ("kill",)),
    (("io", "interrupted", "unsent"), ("state_lost",)),
    (("refuse delete link", "lost_answer"), ("pod_gone", "impatient", "again")),
    (("bridge_again", "pin_lost", "port_down"), ("pod", "again", "kill")),
)
#: EBUSY, ENOMEM, ENOBUFS
CODES = (16, 12, 105)


class Draw:
    """Arguments of each step, out of a seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        one, seconds = random.choice, self.seconds
        self.changes: dict[str, Callable[[], tuple[Argument, ...]]] = {
            "pod": lambda: (one(PODS),),
            "pod_gone": lambda: (one(PODS),),
            "pods": lambda: (one((3, 8, 25)),),
            "pods_gone": lambda: (),
            "dies": lambda: (one(PODS),),
            "again": lambda: (one(PODS),),
            "forget": lambda: (one(PODS),),
            "impatient": lambda: (one(PODS), round(seconds(1e-4, 0.1), 5)),
            "twice": lambda: (one(PODS),),
            "unknown": lambda: (random.randrange(9),),
            "check": lambda: (one(PODS),),
            "status": lambda: (),
            "collect": lambda: (one(("full", "full", "full", "partial", "empty")),),
        }
        self.faults: dict[str, Callable[[], tuple[Argument, ...]]] = {
            "kill": lambda: (seconds(0.01, 30),),
            "kill_at": lambda: (int(seconds(1, 400)), seconds(0.01, 30)),
            "stop": lambda: (seconds(0.01, 30),),
            "power": lambda: (seconds(1, 60),),
            "power_at": lambda: (int(seconds(1, 400)), seconds(1, 60)),
            "state_lost": lambda: (seconds(0.01, 10),),
            "full": lambda: (seconds(1, 90),),
            "read_only": lambda: (seconds(1, 90),),
            "io": lambda: (seconds(1, 90), one((0.2, 0.4, 1.0))),
            "slow_disk": lambda: (seconds(5, 60), one((30, 300))),
            "locked": lambda: (seconds(0.5, 30),),
            "refuse": lambda: (one(REFUSED), one(CODES), seconds(1, 60), one((0.2, 1.0))),
            "refuse nft": lambda: ("nft", one(CODES), seconds(10, 60), one((0.5, 0.7))),
            "refuse delete link": lambda: ("delete link", one(CODES), seconds(5, 60), one((0.5, 1.0))),
            "lost_answer": lambda: (seconds(1, 60), one((0.1, 0.5))),
            "unsent": lambda: (seconds(1, 60), one((0.1, 0.5))),
            "interrupted": lambda: (seconds(1, 60), one((0.3, 1.0))),
            "slow_kernel": lambda: (seconds(1, 60), one((20, 200))),
            "bridge_again": lambda: (),
            "port_down": lambda: (one(PODS),),
            "pin_lost": lambda: (one(PODS),),
            "harm_guard": lambda: (one(("delete", "flush", "rules", "one", "other")), one((0, 1))),
            "block": lambda: (one((0, 1)),),
        }

    def seconds(self, least: float, most: float) -> float:
        """Short ones are as likely as long ones."""
        value = least * (most / least) ** self.random.random()
        return round(value, 2) if value >= 0.01 else value

    def step(self, of: dict[str, Callable[[], tuple[Argument, ...]]], names: list[str], at: float) -> Step:
        what = self.random.choice(names)
        return Step(at, what.partition(" ")[0], of[what]())


def draw(seed: int) -> Case:
    """Few sorts of faults a seed, and often at the same time as changes: what matters are the meetings."""
    random = Random(seed)
    made = Draw(random)
    sorts = random.sample(sorted(made.faults), random.choice((1, 2, 2, 3)))
    changes = random.sample(sorted(made.changes), random.choice((4, 8, len(made.changes))))
    steps = list(BEGINNING)
    for _ in range(random.choice((2, 4, 8))):
        at = round(random.uniform(3, HAPPENS), 2)
        steps.append(made.step(made.faults, sorts, at))
        for _ in range(random.choice((1, 2, 4))):
            later = max(0.0, at + random.choice((-0.05, 0.0, 0.002, 0.01, 0.1, 1, 5)))
            steps.append(made.step(made.changes, changes, round(later + random.random() / 50, 4)))
    if random.random() < 0.65:
        first, then = random.choice(MEETINGS)
        everything = made.faults | made.changes
        for _ in range(random.choice((1, 2))):
            at = round(random.uniform(20, HAPPENS), 2)
            steps.append(made.step(everything, list(first), at))
            steps.append(made.step(everything, list(then), round(at + made.seconds(0.01, 3), 3)))
            steps += [
                Step(round(at + made.seconds(0.05, 20), 3), "pod", (random.choice(PODS),))
                for _ in range(random.choice((1, 4)))
            ]
            if random.random() < 0.3:
                steps.append(Step(round(at + made.seconds(1, 5), 3), "pods", (8,)))
    steps.extend(
        made.step(made.changes, changes, round(random.uniform(3, HAPPENS), 2))
        for _ in range(random.choice((3, 8, 15)))
    )
    return Case(seed, tuple(sorted(steps, key=lambda step: step.at)))
