"""A schedule drawn from a seed: each fault once before any comes twice, never two at one place."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from l3net.errors import ConfigError
from l3net.lab.chaos.fault import Fault
from l3net.lab.chaos.step import Schedule, Step, hosts_of
from l3net.lab.topology import Topology

#: Seconds of calm before the first fault and after the last.
HEAD, TAIL = 3.0, 15.0
#: Seconds a place is left alone after a fault, so that the next one meets a node that has come back.
SETTLE = 5.0
#: Faults under way at once.
AT_ONCE = 3


def drawn(
    seed: int,
    seconds: float,
    faults: Sequence[Fault],
    topology: Topology,
    document: Mapping[str, object] | None = None,
    *,
    at_once: int = AT_ONCE,
) -> Schedule:
    """A schedule. Nothing but its arguments decides. Raises ConfigError where nothing can be drawn."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    usable = [fault for fault in faults if fault.targets(topology)]
    if not usable:
        raise ConfigError("no fault is left that this topology has a target for")
    if seconds < HEAD + TAIL + 1:
        raise ConfigError(f"{seconds:g} s are too short: {HEAD + TAIL:g} s are for the calm before and after")
    steps: list[Step] = []
    free: dict[str, float] = {}
    lanes = [HEAD] * at_once
    deck: list[Fault] = []
    misses = 0
    while misses < len(usable) * 2:
        if not deck:
            deck = list(usable)
            chance.shuffle(deck)
        fault = deck.pop()
        targets = fault.targets(topology)
        length = round(chance.uniform(*fault.lengths), 1)
        lane = min(range(at_once), key=lanes.__getitem__)
        gap = round(chance.uniform(0.2, 3.0), 1)
        # The place that is free first, of those in the order that chance gives.
        order = chance.sample(targets, len(targets))
        target = min(order, key=lambda name: max(free.get(host, 0.0) for host in hosts_of(name)))
        at = max(lanes[lane] + gap, *(free.get(host, 0.0) for host in hosts_of(target)))
        step = Step(round(at, 1), fault.name, target, length, chance.randrange(1 << 16))
        if step.until > seconds - TAIL:
            misses += 1
            continue
        steps.append(step)
        lanes[lane] = step.until
        for host in hosts_of(target):
            free[host] = step.until + SETTLE
    return Schedule(seed, seconds, tuple(sorted(steps)), document)
