"""Courses of events that seldom come about by themselves, drawn out of a seed: who is away when what changes.

Each is a function of a random source and of the second in which it begins. A tale is told in most seeds, and
what it breaks is found in few of them, so that all are short.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from stepped import Argument, Step

Tale: TypeAlias = Callable[[Random, float], list[Step]]

#: Seconds between two snapshots of the store (cluster.py).
SNAPSHOTS = 10.0


class _Telling:
    """Steps at times after the beginning of a tale."""

    def __init__(self, random: Random, began: float) -> None:
        self._random, self._began = random, began
        self.steps: list[Step] = []

    def at(self, least: float, most: float, what: str, *args: Argument) -> float:
        """Somewhere between two seconds; when, from the beginning."""
        when = round(self._random.uniform(least, most), 3)
        self.steps.append(Step(round(self._began + when, 3), what, args))
        return when

    def seconds(self, least: float, most: float) -> float:
        return round(self._random.uniform(least, most), 2)


def _away(random: Random, telling: _Telling, least: float, most: float, who: str) -> None:
    """A controller that leads no longer, by one of several ways."""
    what = random.choice(("apart", "pause", "apart", "pause", "restart", "stop"))
    telling.at(least, most, what, who, telling.seconds(17, 30))


def node_goes_twice(random: Random, began: float) -> list[Step]:
    """A node goes, comes back and goes again while controllers take turns; another node asks for a block."""
    telling = _Telling(random, began)
    name, (first, second) = random.choice(("n1", "n2", "n3")), random.sample(("a", "b"), 2)
    telling.at(0, 1, "node_gone", name)
    _away(random, telling, 2, 12, first)
    back = telling.at(26, 45, "node", name)
    telling.at(back + 0.2, back + 8, "node_gone", name)
    _away(random, telling, back + 2, 60, second)
    telling.at(60, 85, "node", "n5")
    telling.at(70, 120, "node", name)
    return telling.steps


def stale_watch(random: Random, began: float) -> list[Step]:
    """A node goes and comes back, of which one server's caches do not hear."""
    telling = _Telling(random, began)
    name, kind = random.choice(("n1", "n2", "n3")), random.choice(("lag", "silent"))
    telling.at(0, 1, "node_gone", name)
    telling.at(1.2, 3, kind, 0, telling.seconds(65, 110))
    telling.at(4, 30, "node", name)
    telling.at(50, 70, "node", "n6")
    return telling.steps


def move_back(random: Random, began: float) -> list[Step]:
    """A client's connections lead from a server that is ahead to one that is behind."""
    telling = _Telling(random, began)
    telling.at(0, 1, "lag", 1, 100.0)
    for what, args in _changes(random, 4):
        telling.at(1, 6, what, *args)
    telling.at(7, 15, "move", random.choice(("n1", "n1", "a")))
    return telling.steps


def same_version(random: Random, began: float) -> list[Step]:
    """After a restore an object comes to have a version that it had before, and says something else."""
    telling = _Telling(random, SNAPSHOTS * (began // SNAPSHOTS + 1))
    name = random.choice(("n2", "n3"))
    for when in (0.0, 30.0):
        telling.at(when, when + 0.3, "label", name, f"before{when}")
        for _ in range(9):  # so that it can be told that versions went back
            telling.at(when + 0.4, when + 3, "beat", random.choice(("n1", "n4")))
        back = telling.at(when + 3, when + 4, "restore", 2.5)
        telling.at(back + 0.01, back + 0.4, "label", name, f"after{when}")
    return telling.steps


def cut_off_in_a_restore(random: Random, began: float) -> list[Step]:
    """One hears nothing for a while, in which the store is put back, and goes on past where it was."""
    telling = _Telling(random, began)
    for what, args in _changes(random, 6):
        telling.at(22, 26, what, *args)
    telling.at(30, 31, "apart", "n1", random.choice((telling.seconds(92, 115), telling.seconds(196, 230))))
    telling.at(31.5, 40, "restore", telling.seconds(12, 16))
    return telling.steps


def lease_after_a_restore(random: Random, began: float) -> list[Step]:
    """Who led when the snapshot was taken reads its own name in the lease; or it was free then."""
    telling = _Telling(random, SNAPSHOTS * (began // SNAPSHOTS + 1))
    if random.random() < 0.5:
        away = telling.seconds(25, 35)
        paused = telling.at(0, 4, "pause", "a", away)
        telling.at(paused + away - 1.2, paused + away + 0.1, "restore", telling.seconds(36, 45))
    else:
        telling.at(8, 9.99, "stop", "a", 1.0)
        telling.at(38, 40, "restore", telling.seconds(22, 28))
    return telling.steps


def address_after_a_restore(random: Random, began: float) -> list[Step]:
    """What a service got after the snapshot is nobody's in the ledger."""
    telling = _Telling(random, began)
    telling.at(0, 1, "service", random.choice(("s1", "s3")), 1)
    telling.at(random.choice((0.2, 1)), 3, "restore", telling.seconds(12, 25))
    for _ in range(2):
        telling.at(3, 12, "service", random.choice(("s4", "s5")), 1)
    return telling.steps


def edited_ledger(random: Random, began: float) -> list[Step]:
    """Somebody edits it, and then something changes, or nothing does."""
    telling = _Telling(random, began)
    telling.at(0, 5, "node_gone", random.choice(("n1", "n2", "n3")))
    how = random.choice(("gone", "gone", "swap", "swap", "drop", "empty", "delete"))
    telling.at(6, 20, "ledger", how, random.randrange(8))
    if random.random() < 0.6:
        telling.at(21, 40, "node", "n5")
        telling.at(21, 40, "service", "s4", 1)
    return telling.steps


def sessions_at_once(random: Random, began: float) -> list[Step]:
    """Many write into one status while answers take long."""
    telling = _Telling(random, began)
    for name in ("n5", "n6"):
        telling.at(0, 0.1, "node", name)
    telling.at(5, 6, "slow", 40.0, *random.choice(((0.1, 2.0), (0.5, 4.0))))
    for _ in range(3):
        telling.at(6, 30, "sessions", 6, "tor", random.choice((0, 1)))
    return telling.steps


def swapped_lines(random: Random, began: float) -> list[Step]:
    """Lines of a watch come twice, or in another order, while one object changes again and again."""
    telling = _Telling(random, began)
    name, service = random.choice(("n2", "n3")), random.choice(("s1", "s2"))
    telling.at(0, 1, "spoil_watch", random.choice(("swapped", "swapped", "twice")), "", 30.0)
    for number in range(6):
        when = telling.at(1, 28, "label", name, f"x{number}")
        telling.at(when + 0.01, when + 0.3, "label", name, f"y{number}")
        when = telling.at(1, 28, "service_again", service, 0)
        telling.at(when + 0.01, when + 0.3, "service_again", service, 1)
    return telling.steps


def policies(random: Random, began: float) -> list[Step]:
    """Pods of other nodes, and a policy that speaks of them."""
    telling = _Telling(random, began)
    for number in range(1, 6):
        telling.at(0, 3, "pod", f"p{number}", random.choice(("n1", "n2", "n3")))
    telling.at(4, 8, "policy", "q1")
    telling.at(9, 20, "restart", "n1", telling.seconds(0.1, 5))
    return telling.steps


def stops(random: Random, began: float) -> list[Step]:
    """One controller after the other is ended in order, and somebody deletes the lease."""
    telling = _Telling(random, began)
    for _ in range(3):
        telling.at(0, 60, "lease_gone")
    telling.at(0, 3, "stop", "a", 1.0)
    telling.at(30, 50, "stop", "b", 1.0)
    return telling.steps


def short_refusal(random: Random, began: float) -> list[Step]:
    """The API server refuses for seconds what follows from a change, and then nothing else happens."""
    telling = _Telling(random, began)
    code, verb = random.choice((500, 503, 504)), random.choice(("patch", "patch", "", "get"))
    plural = random.choice(("nodes", "services", ""))
    telling.at(0, 0.5, "refuse", code, verb, plural, telling.seconds(1.5, 6), 0, 1.0)
    telling.at(0.5, 1.2, "node", "n5")
    telling.at(0.5, 1.2, "service", "s4", 1)
    return telling.steps


def made_anew(random: Random, began: float) -> list[Step]:
    """Pools and peers are deleted and applied again, while the controllers hear of nothing, or of all."""
    telling = _Telling(random, began)
    faults: tuple[tuple[str, tuple[Argument, ...]], ...] = (
        ("apart", ("a", 5.0)),
        ("apart", ("b", 5.0)),
        ("silent", (0, 5.0)),
        ("lag", (0, 5.0)),
        ("cut", ()),
    )
    for _ in range(2):
        what, args = random.choice(faults)
        when = telling.at(0, 40, what, *args)
        telling.at(when + 0.1, when + 1, "pool_back", random.choice(("four", "six")), telling.seconds(0.1, 3))
        telling.at(when + 0.1, when + 1, "peer_gone", "tor")
        telling.at(when + 1, when + 3, "peer", "tor")
    return telling.steps


def slow_leader(random: Random, began: float) -> list[Step]:
    """Answers take as long as a lease lasts, and there is much to write."""
    telling = _Telling(random, began)
    telling.at(0, 1, "slow", 60.0, *random.choice(((1.0, 8.0), (5.0, 28.0))))
    for number in range(1, 5):
        telling.at(5 * number, 5 * number + 2, "node_again", f"n{number}")
        telling.at(5 * number, 5 * number + 2, "service_again", f"s{number}", 1)
    return telling.steps


def undefined_for_a_while(random: Random, began: float) -> list[Step]:
    """A server that has just begun does not know a kind yet."""
    telling = _Telling(random, began)
    telling.at(0, 1, "undefined", "servicecidrs", telling.seconds(10, 55))
    telling.at(1.1, 3, "restart_server", 0)
    telling.at(1.1, 3, "restart_server", 1)
    return telling.steps


def refused_watches(random: Random, began: float) -> list[Step]:
    """Lists are answered, and watches are not."""
    telling = _Telling(random, began)
    plural = random.choice(("nodes", "services", "ippools", "namespaces", "pods"))
    telling.at(0, 1, "gone_watches", plural, telling.seconds(70, 110))
    for number in range(3):
        telling.at(2 + 20 * number, 20 * number + 20, random.choice(("cut", "compact")))
    return telling.steps


def _changes(random: Random, count: int) -> list[tuple[str, tuple[Argument, ...]]]:
    """Of several kinds."""
    every: list[tuple[str, tuple[Argument, ...]]] = [
        ("namespaces", (3,)),
        ("service", ("s4", 1)),
        ("service_gone", ("s2",)),
        ("peer", ("spine",)),
        ("pool", ("more", "10.112.0.0/18", 26)),
        ("mesh", (0,)),
        ("node", ("n5",)),
        ("label", ("n2", "new")),
    ]
    return random.sample(every, count)


TALES: tuple[Tale, ...] = (
    node_goes_twice,
    stale_watch,
    move_back,
    same_version,
    cut_off_in_a_restore,
    lease_after_a_restore,
    address_after_a_restore,
    edited_ledger,
    sessions_at_once,
    swapped_lines,
    policies,
    stops,
    short_refusal,
    made_anew,
    slow_leader,
    undefined_for_a_while,
    refused_watches,
)
