"""All blocks of all nodes to all nodes, by a small discrete-event model with costs that were measured.

A speaker is one processor that does what waits in order: to take a path, and to hand it on to so many peers.
Nodes announce at once, as after a power cut. Three shapes: reflectors among the nodes (each hands on every
path to every other node), routers as reflectors, and racks of nodes under ToRs that meet at spines. Families
are sessions of their own, and of one speaker. What a path costs was measured as CPU by `scaling/sessions.py`;
`measure` holds the model against 10, 25 and 50 real clients of a real reflector.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final

BLOCKS: Final = 2
FAMILIES: Final = 2
PATHS: Final = BLOCKS * FAMILIES  # of a node
RACK: Final = 40
LINK: Final = 0.0005  # seconds from one speaker to the next


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of processor of a speaker: for a path taken, and for one handed on to one peer."""

    take: float
    give: float


#: Of a node, agent, ExaBGP and relay together: `scaling/sessions.py` measured 122 us for a path of an UPDATE
#: of two that is taken (kernel route and all), and as a reflector 580 to 610 us for each given to a client.
NODE: Final = Costs(take=0.125e-3, give=0.6e-3)
#: Of a router that is written in C: BIRD's 10,000 of `bench/bgp.py --only announce`, without a kernel.
ROUTER: Final = Costs(take=5e-6, give=4e-6)


class Clock:
    """Events in the order of their times; those of one time in the order in which they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._waiting, (time, next(self._number), what))

    def run(self) -> float:
        """Until nothing is left; when that was."""
        while self._waiting:
            self.now, _, what = heapq.heappop(self._waiting)
            what()
        return self.now


@dataclass
class Speaker:
    """One processor: what it took, what it handed on, how long it was busy."""

    clock: Clock
    costs: Costs
    taken: int = 0
    given: int = 0
    busy: float = 0.0
    done: float = 0.0

    def take(self, paths: int, given: int = 0, then: Callable[[], None] | None = None) -> None:
        """So many have arrived, and so many are handed on; `then` happens where these arrive."""
        work = paths * self.costs.take + given * self.costs.give
        self.done = max(self.done, self.clock.now) + work
        self.taken, self.given, self.busy = self.taken + paths, self.given + given, self.busy + work
        if then is not None:
            self.clock.at(self.done + LINK, then)


@dataclass(frozen=True)
class Outcome:
    """Seconds until the last node has the last path; of the speaker between that is busiest: how long, and
    what it took and gave; paths that a node took."""

    nodes: int
    seconds: float
    busy: float
    taken: int
    given: int
    at_node: int
    node_busy: float


def reflected(nodes: int, reflectors: int = 3, between: Costs = NODE, node: Costs = NODE) -> Outcome:
    """Every node announces to each reflector, and hears of all others from each."""
    clock = Clock()
    client = Speaker(clock, node)  # all are alike
    tier = [Speaker(clock, between) for _ in range(reflectors)]

    def announce(speaker: Speaker, number: int) -> None:
        hears = (lambda: client.take(PATHS)) if number else None  # its own it is not told
        speaker.take(PATHS, PATHS * (nodes - 1), hears)

    for speaker in tier:
        for number in range(nodes):
            clock.at(LINK, partial(announce, speaker, number))
    clock.run()
    return _outcome(nodes, tier, client)


def racked(nodes: int, tors: int = 2, spines: int = 2, node: Costs = NODE, router: Costs = ROUTER) -> Outcome:
    """Racks of 40 nodes under ToRs, which meet at spines; every node hears all from each of its own."""
    clock = Clock()
    racks, here = max(1, -(-nodes // RACK)), min(nodes, RACK)
    spines = spines if racks > 1 else 0
    client = Speaker(clock, node)
    lower = [Speaker(clock, router) for _ in range(tors)]
    upper = [Speaker(clock, router) for _ in range(spines)]

    def of_own_node(tor: Speaker, number: int) -> None:
        hears = (lambda: client.take(PATHS)) if number else None
        tor.take(PATHS, PATHS * (here - 1 + spines), hears)

    def at_spine(spine: Speaker, first: bool, elsewhere: bool) -> None:
        """The second ToR's path to the same block is another way, and nothing to be handed on."""
        given = PATHS * (racks - 1) * tors if first else 0
        spine.take(PATHS, given, partial(down, spine) if first and elsewhere else None)

    def down(spine: Speaker) -> None:
        first = spine is upper[0]
        for tor in lower:
            tor.take(PATHS, PATHS * here if first else 0, (lambda: client.take(PATHS)) if first else None)

    for tor in lower:
        for number in range(here):
            clock.at(LINK, partial(of_own_node, tor, number))
        for spine in upper:
            for number in range(nodes):
                clock.at(2 * LINK, partial(at_spine, spine, tor is lower[0], number >= here))
    clock.run()
    return _outcome(nodes, [*lower, *upper], client)


def _outcome(nodes: int, between: list[Speaker], client: Speaker) -> Outcome:
    worst = max(between, key=lambda each: each.busy)
    seconds = max(client.done, *(each.done for each in between))
    return Outcome(nodes, seconds, worst.busy, worst.taken, worst.given, client.taken, client.busy)


def rows(sizes: list[int]) -> Iterator[tuple[str, Outcome]]:
    for nodes in sizes:
        yield "three nodes as reflectors", reflected(nodes)
        yield "two routers as reflectors", reflected(nodes, 2, ROUTER)
        yield "two ToRs a rack, two spines", racked(nodes)


def fitted(measured: list[dict[str, Any]]) -> Costs:
    """Of a speaker, from the CPU of reflectors of different sizes: the least squares of take and give."""
    a11 = a12 = a22 = b1 = b2 = 0.0
    for row in measured:
        cpu, taken, given = sum(row["told_cpu"].values()), row["received"], row["sent"]
        a11, a12, a22 = a11 + taken * taken, a12 + taken * given, a22 + given * given
        b1, b2 = b1 + taken * cpu, b2 + given * cpu
    base = a11 * a22 - a12 * a12
    return Costs(max(0.0, (b1 * a22 - b2 * a12) / base), max(0.0, (a11 * b2 - a12 * b1) / base))


def measure(sizes: list[int]) -> list[dict[str, Any]]:
    from scaling import sessions  # noqa: PLC0415 - what needs root

    real = [sessions.one(clients).__dict__ for clients in sessions.SIZES]
    costs = fitted(real[:-1])  # the largest is not among what the model knows
    print(f"a node as reflector: {costs.take * 1e3:.2f} ms a path taken, {costs.give * 1e6:.0f} us one given")
    free = Costs(0.0, 0.0)
    print(f"{'clients':>8} {'CPU model':>10} {'measured':>9} {'s model':>9} {'measured':>9}")
    found: list[dict[str, Any]] = []
    for row in real:
        model = reflected(row["clients"], 1, costs, free)
        cpu = sum(row["told_cpu"].values())
        told = f"{model.busy:10.2f} {cpu:9.2f} {model.seconds:9.2f} {row['told_seconds']:9.2f}"
        print(f"{row['clients']:8} {told}", flush=True)
        found.append({"clients": row["clients"], "model": model.__dict__, "measured": row})
    print(f"\n{'':30} {'nodes':>6} {'seconds':>9} {'busiest':>9} {'takes':>9} {'gives':>11} {'a node':>8}")
    for what, each in rows(sizes):
        print(
            f"{what:30} {each.nodes:6} {each.seconds:9.1f} {each.busy:9.1f} {each.taken:9} {each.given:11} "
            f"{each.at_node:8}",
            flush=True,
        )
        found.append({"shape": what, **each.__dict__})
    print(json.dumps(found[: len(real)], default=str))
    return found
