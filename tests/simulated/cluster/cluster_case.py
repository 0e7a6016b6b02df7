"""What happens to a simulated cluster, as values: drawn out of a seed, printed, and cut down by dropping
steps.

A step's name is that of a method of `cluster_world.ClusterWorld`; what it speaks of need not be there, so
that any steps may be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cluster_tales import TALES
from cluster_views import GRACE
from stepped import Argument, Case, Step

#: Seconds in which everything happens; faults may last for some more.
HAPPENS = (120, 250, 400)
#: The share of seeds with a tale, in whose course little else happens.
TOLD = 0.75
#: The share of these at whose end somebody edits the ledger.
EDITED = 0.15
#: Faults that are told apart by what meets them, and changes.
MEETINGS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("restore", "restart", "stop", "pause"), ("node", "node_gone", "service", "wish", "pool_back")),
    (("restore", "apart", "down"), ("node", "node_gone", "service", "service_gone", "pool_back")),
    (("lag", "silent", "move"), ("node", "node_again", "service", "service_again", "namespaces")),
    (("ledger", "restart", "stop"), ("node", "node_gone", "node_swap", "service", "wish")),
    (("slow", "lose"), ("sessions", "node_again", "service_again", "wish", "spoil")),
    (("slow", "apart", "pause"), ("node", "service", "service_gone", "wish", "node_again")),
    (("spoil_watch",), ("node_again", "service_again", "node_gone", "service", "peer_gone", "peer")),
    (("gone_watches", "compact", "refuse"), ("node", "service", "namespaces", "namespaces_gone")),
    (("apart", "restart"), ("node_gone", "node", "node_again", "node_swap")),
)
NODES = ("n1", "n2", "n3", "n4", "n5", "n6")
SERVICES = ("s1", "s2", "s3", "s4", "s5")
PODS = ("p1", "p2", "p3", "p4", "p5")
CONTROLLERS = ("a", "b")
CLIENTS = (*CONTROLLERS, "n1")
#: Those that are watched; empty: any.
PLURALS = ("", "nodes", "services", "ippools", "bgppeers", "namespaces", "pods", "endpointslices")
BEGINNING = (
    Step(0, "pool", ("four", "10.244.0.0/18", 24)),
    Step(0, "pool", ("six", "fd00:244::/112", 120)),
    Step(0, "pool", ("lb4", "192.0.2.0/26", 0)),
    Step(0, "pool", ("lb6", "2001:db8:1::/122", 0)),
    *(Step(0, "node", (name,)) for name in NODES[:4]),
    *(Step(0, "service", (name, number % 2)) for number, name in enumerate(SERVICES[:3])),
    Step(0, "peer", ("tor",)),
    Step(0, "service_range", ("services",)),
    Step(0, "start", ("n1",)),
    Step(0, "start", ("a",)),
    Step(1, "start", ("b",)),
)


class Draw:
    """Arguments of each step, out of a seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        one = random.choice
        self.changes: dict[str, Callable[[], tuple[Argument, ...]]] = {
            "node": lambda: (one(NODES),),
            "node_gone": lambda: (one(NODES),),
            "node_again": lambda: (one(NODES),),
            "node_swap": lambda: (one(NODES), one(NODES), self.seconds(0.0, 100)),
            "beat": lambda: (one(NODES),),
            "wish": lambda: (one(NODES), one((4, 6)), one((2, 3))),
            "label": lambda: (one(NODES), one(("red", "green", "blue"))),
            "warn": lambda: (one(NODES), one(("it is late", "it is early"))),
            "pool": lambda: one((("four", "10.244.0.0/18", 24), ("more", "10.112.0.0/18", 26))),
            "pool_gone": lambda: (one(("four", "six", "more")),),
            "pool_back": lambda: (one(("four", "six")), self.seconds(0.1, 60)),
            "service": lambda: (one(SERVICES), one((0, 1))),
            "service_gone": lambda: (one(SERVICES),),
            "service_again": lambda: (one(SERVICES), one((0, 1))),
            "service_type": lambda: (one(SERVICES), one(("ClusterIP", "LoadBalancer"))),
            "ingress_lost": lambda: (one(SERVICES),),
            "peer": lambda: (one(("tor", "spine")),),
            "peer_gone": lambda: (one(("tor", "spine")),),
            "sessions": lambda: (one((1, 3, 6)), one(("tor", "tor", "spine")), one((0, 1))),
            "namespaces": lambda: (one((3, 12)),),
            "namespaces_gone": lambda: (),
            "pod": lambda: (one(PODS), one(NODES)),
            "pod_gone": lambda: (one(PODS),),
            "policy": lambda: (one(("q1", "q2")),),
            "policy_gone": lambda: (one(("q1", "q2")),),
            "spoil": lambda: (one(("node", "service", "pool", "peer")), self.seconds(5, 120)),
            "mesh": lambda: (one((0, 1)),),
        }
        self.faults: dict[str, Callable[[], tuple[Argument, ...]]] = {
            "refuse": self._refuse,
            "forbid": lambda: (one((401, 403)), one(PLURALS), self.seconds(1, 60)),
            "undefined": lambda: (one(("servicecidrs", "clusternetworkpolicies")), self.seconds(1, 100)),
            "down": lambda: (self.seconds(1, 100),),
            "lost": lambda: (self.seconds(1, 200),),
            "apart": lambda: (one(CLIENTS), self.seconds(3, 200)),
            "cut": lambda: (),
            "slow": lambda: (self.seconds(5, 60), *one(((0.1, 2.0), (1.0, 8.0), (5.0, 45.0)))),
            "lose": lambda: (self.seconds(5, 60), one((0.3, 1.0))),
            "torn": lambda: (self.seconds(5, 40), one((0.3, 1.0))),
            "html": lambda: (self.seconds(5, 40), one((0.3, 1.0))),
            "spoil_watch": self._spoil_watch,
            "gone_watches": lambda: (one(PLURALS[1:]), self.seconds(20, 120)),
            "silent": lambda: (one((0, 1)), self.seconds(20, 200)),
            "lag": lambda: (one((0, 1)), self.seconds(5, 100)),
            "restart_server": lambda: (one((0, 1)),),
            "compact": lambda: (),
            "restore": lambda: (self.seconds(20, 150),),
            "ledger": lambda: (
                one(("drop", "swap", "gone", "empty", "delete", "broken")),
                self.random.randrange(8),
            ),
            "lease_gone": lambda: (),
            "restart": lambda: (one(CLIENTS), self.seconds(0.1, 60)),
            "stop": lambda: (one(CONTROLLERS), self.seconds(0.1, 60)),
            "pause": lambda: (one(CONTROLLERS), self.seconds(3, 200)),
            "move": lambda: (one(CLIENTS),),
            "skew": lambda: (one(CLIENTS), one((-3600.0, 30.0, 86400.0))),
        }

    def seconds(self, least: float, most: float) -> float:
        """Short ones are as likely as long ones."""
        value = max(least, 0.01) * (most / max(least, 0.01)) ** self.random.random()
        return round(value, 2)

    def _refuse(self) -> tuple[Argument, ...]:
        one = self.random.choice
        code = one((409, 422, 429, 429, 500, 503, 504))
        verb = one(("", "list", "watch", "get", "patch", "update", "create"))
        if code in (409, 422):
            verb = one(("patch", "update"))
        after = one((0, 1, 10)) if code in (429, 503) else 0
        return code, verb, one(PLURALS), self.seconds(1, 90), after, one((0.3, 1.0))

    def _spoil_watch(self) -> tuple[Argument, ...]:
        one = self.random.choice
        how = one(("torn", "garbage", "blank", "error500", "twice", "swapped", "shapeless"))
        return how, one(PLURALS), self.seconds(5, 60)

    def step(self, of: dict[str, Callable[[], tuple[Argument, ...]]], names: list[str], at: float) -> Step:
        what = self.random.choice(names)
        return Step(at, what, of[what]())


FAULTS = frozenset(Draw(Random(0)).faults)


def draw(seed: int) -> Case:
    """A tale, or few sorts of faults, often at the same time as changes: what matters are the meetings."""
    random = Random(seed)
    steps = _told(random) if random.random() < TOLD else _met(random)
    return Case(seed, tuple(sorted((*BEGINNING, *steps), key=lambda step: step.at)))


def _told(random: Random) -> list[Step]:
    """One tale, or two one after the other, with some changes beside it."""
    began, made = random.uniform(20, 40), Draw(random)
    steps: list[Step] = []
    for _ in range(random.choice((1, 2, 2, 3))):
        steps += random.choice(TALES)(random, began)
        began = max(step.at for step in steps) + random.uniform(0, 30)
    names = sorted(made.changes)
    steps += [
        made.step(made.changes, names, round(random.uniform(15, began), 2))
        for _ in range(random.choice((0, 0, 1, 4)))
    ]
    if random.random() < EDITED:  # when nothing else has the controllers look at it
        how = random.choice(("drop", "swap", "empty", "delete"))
        steps.append(Step(round(began + GRACE + 5, 2), "ledger", (how, random.randrange(8))))
    return steps


def _met(random: Random) -> list[Step]:
    made, happens = Draw(random), random.choice(HAPPENS)
    sorts = random.sample(sorted(made.faults), random.choice((1, 2, 3, 5)))
    changes = random.sample(sorted(made.changes), random.choice((4, 8, len(made.changes))))
    if random.random() < 0.6:
        meeting, changes = (list(each) for each in random.choice(MEETINGS))
        sorts = random.sample(meeting, random.randint(1, len(meeting)))
    steps: list[Step] = []
    for _ in range(random.choice((2, 4, 8))):
        at = round(random.uniform(0.2, happens), 2)
        steps.append(made.step(made.faults, sorts, at))
        for _ in range(random.choice((0, 1, 3))):
            later = max(0.0, at + random.choice((-0.5, 0.0, 0.01, 0.1, 1, 5, 20)))
            steps.append(made.step(made.changes, changes, round(later + random.random() / 50, 3)))
    steps.extend(
        made.step(made.changes, changes, round(random.uniform(0.2, happens), 2))
        for _ in range(random.choice((3, 8, 15)))
    )
    return steps
