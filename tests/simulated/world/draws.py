"""Cases out of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from world.case import Argument, Case, Shape, Step
from world.tales import told

Drawn = TypeVar("Drawn")
#: What may happen, how often beside the others, and what its arguments are drawn from.
SECONDS = (0.0, 0.2, 3.0, 20.0, 130.0)
WHICH = tuple(range(50))
DRAWN: dict[str, tuple[int, tuple[tuple[Argument, ...], ...]]] = {
    "agent_killed": (6, (WHICH, SECONDS)),
    "agent_stopped": (3, (WHICH, SECONDS)),
    "exabgp_killed": (4, (WHICH,)),
    "exabgp_hangs": (2, (WHICH, (1.0, 3.0))),
    "bfd_killed": (2, (WHICH, SECONDS)),
    "node_off": (3, (WHICH, (1.0, 20.0, 100.0, 400.0))),
    "uplink_down": (4, (WHICH, (0.01, 1.0, 12.0, 130.0))),
    "path_fails": (4, (WHICH, (0.5, 3.0, 40.0, 130.0), ("to", "from", "both"))),
    "uplink_deaf": (3, (WHICH, (0.5, 3.0, 40.0, 130.0))),
    "wire_down": (3, (WHICH, (0.5, 12.0, 130.0))),
    "router_restarts": (4, (WHICH, (1.0, 8.0, 60.0, 150.0), (True, False))),
    "router_off": (3, (WHICH, (2.0, 30.0, 200.0))),
    "session_reset": (3, (WHICH,)),
    "table_flushed": (2, (WHICH,)),
    "routes_deleted": (3, (WHICH, (True, False))),
    "bridge_deleted": (2, (WHICH,)),
    "kernel_fails": (4, (WHICH, (0.1, 3.0, 70.0))),
    "table_refuses": (3, (WHICH, (0.1, 3.0, 70.0))),
    "foreign_route": (3, (WHICH, (0.1, 5.0, 60.0))),
    "reload_put_off": (2, (WHICH, (0.5, 5.0, 30.0))),
    "relay_garbles": (2, (WHICH, (1, 5, 50))),
    "block_lost": (3, (WHICH, (0.01, 5.0, 100.0))),
    "prefixes_burst": (2, ((10, 400), (0.01, 3.0, 60.0))),
    "api_cut": (6, (WHICH, SECONDS)),
    "api_fails": (2, (WHICH,)),
    "api_slow": (3, (WHICH, (0.3, 5.0), (30.0, 200.0))),
    "api_doubles": (2, (WHICH, (60.0, 300.0))),
    "pod_added": (8, (WHICH,)),
    "pod_deleted": (8, (WHICH,)),
    "service_deleted": (3, (WHICH, (0.001, 1.0, 60.0))),
    "endpoints_flap": (4, (WHICH, (1, 3, 10))),
    "block_added": (3, (WHICH, (0.01, 5.0, 100.0))),
    "cordoned": (4, (WHICH, (0.1, 4.0, 60.0, 300.0))),
    "leaves": (3, (WHICH, (0.2, 8.0, 60.0, 300.0))),
    "drain_waits_longer": (2, ((5.0, 60.0, 300.0),)),
    "session_flaps": (2, (WHICH, (3.0, 6.0))),
    "policy_gone": (3, ((0.1, 8.0, 60.0),)),
    "topology_changes": (2, ((3.0, 60.0, 200.0),)),
    "communities_change": (2, ((1.0, 60.0),)),
    "unready": (2, (WHICH, (1.0, 60.0, 300.0))),
    "prefix_flaps": (2, ((1, 5, 30), (0.01, 0.5))),
    "hijack": (3, (WHICH, (1.0, 60.0))),
    "virtual_address": (2, (WHICH, (0.5, 20.0, 100.0))),
    "old_node": (2, (WHICH, (0.1, 5.0, 60.0))),
    "peer_gone": (2, (WHICH, (0.01, 3.0, 20.0))),
    "aggregated": (2, (WHICH, (0.0, 3.0))),
    "alone": (3, (WHICH, (0.0, 5.0, 130.0))),
}
#: Seconds between two happenings.
PAUSES = (0.0, 0.01, 0.5, 5.0, 40.0, 200.0, 900.0)
#: What few worlds have, and fewer still; a world's cost grows faster than its nodes.
LARGE, LARGEST = 12, 50


def shape(drawn: Random, most_nodes: int = LARGEST) -> Shape:
    racks = drawn.choice((1, 1, 1, 2, 3))
    per_rack = drawn.choice((1, 2, 2, 3, 4))
    chance = drawn.random()
    if chance < 0.05:
        per_rack = min(LARGE, most_nodes) // racks
    if chance < 0.01:
        racks = drawn.choice((2, 5))
        per_rack = most_nodes // racks
    per_rack = max(1, min(per_rack, most_nodes // racks))
    mesh = racks > 1 or drawn.random() < 0.7
    return Shape(
        racks=racks,
        tors=drawn.choice((1, 2)),
        spines=0 if racks == 1 and drawn.random() < 0.5 else drawn.choice((1, 2)),
        nodes=per_rack,
        mesh=mesh,
        reflectors=mesh and drawn.random() < 0.25,
        bfd=drawn.random() < 0.4,
        hold=drawn.choice((9, 9, 30, 90, 90)),
        graceful=drawn.choice((120, 120, 120, 0)),
        services=drawn.choice((1, 2, 4)),
        pods=drawn.choice((1, 2, 3)),
        policies=drawn.random() < 0.4,
        lag=drawn.choice((0.0, 0.0, 0.5)),
    )


def draw(seed: int, most_nodes: int = LARGEST, steps: int = 16) -> Case:
    """The case of a seed: of every other one tales, in a small world. `most_nodes` and `steps` are of the
    rest."""
    number, tales = divmod(seed, 2)
    return told(number) if tales else swarm(number, most_nodes, steps)


def swarm(number: int, most_nodes: int = LARGEST, steps: int = 16) -> Case:
    """A few of all happenings, machines and pauses, so that what seldom meets does in some (swarm testing:
    Groce and others, ISSTA 2012)."""
    drawn = Random(number)
    found = shape(drawn, most_nodes)
    names = [name for name, (weight, _) in DRAWN.items() for _ in range(weight)]
    kinds = _some(drawn, names, (2, 3, 5, 9, 200))
    machines = _some(drawn, WHICH, (1, 2, 3, 50))
    pauses = _some(drawn, PAUSES, (2, 3, 5, 7))
    if len(found.names) > LARGE:
        steps, pauses = 6, PAUSES[:-2]
    at, made = 0.0, []
    for _ in range(drawn.randint(4, steps)):
        name = drawn.choice(kinds)
        drawn_from = (machines if values is WHICH else values for values in DRAWN[name][1])
        step = Step(round(at, 3), name, tuple(map(drawn.choice, drawn_from)))
        made.append(step)
        if drawn.random() < 0.25 and DRAWN[name][1][0] is WHICH:
            made.append(_beside(drawn, step))
        at += drawn.choice(pauses)
    return Case(number, found, tuple(made))


def _beside(drawn: Random, step: Step) -> Step:
    """Whatever happens may happen while an agent is away, or cannot follow."""
    what = drawn.choice(("agent_killed", "agent_killed", "agent_stopped", "api_cut", "kernel_fails"))
    at = max(0.0, step.at + drawn.choice((-0.5, -0.01, 0.01, 0.5)))
    return Step(round(at, 3), what, (step.args[0], drawn.choice((0.2, 3.0, 20.0))))


def _some(drawn: Random, all_of_them: Sequence[Drawn], sizes: Sequence[int]) -> Sequence[Drawn]:
    """As many as one of the sizes says."""
    return drawn.sample(all_of_them, min(drawn.choice(sizes), len(all_of_them)))
