"""Courses of events that operators meet, and that seldom come about by themselves, drawn out of a seed: what
happens to a node while its agent is away, what is refused while all else changes, who lies, who comes back.

Each tale is a function of a random source; its decorator says which worlds it can be told in. A world has a
few tales, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from world.case import Argument, Case, Shape, Step

Tell = Callable[["Telling"], None]
Needs = Mapping[str, tuple[int, ...]]
#: Seconds between two tales.
PAUSE = (90.0, 200.0)
#: Of a world.
MOST_TALES = 4


@dataclass(frozen=True, slots=True)
class Tale:
    """`needs`: of a Shape, what an option may be, the likeliest first."""

    tell: Tell
    needs: Needs

    def fits(self, needs: Needs) -> dict[str, tuple[int, ...]] | None:
        """The needs of both, if a world can have them."""
        both = dict(needs)
        for name, values in self.needs.items():
            both[name] = tuple(each for each in values if each in both.get(name, values))
            if not both[name]:
                return None
        return both


TALES: list[Tale] = []


def tale(**needs: tuple[int, ...]) -> Callable[[Tell], Tell]:
    def told(tell: Tell) -> Tell:
        TALES.append(Tale(tell, needs))
        return tell

    return told


class Telling:
    """Steps at times after the beginning of a tale. `one` and `other`: numbers of nodes, of routers, of what
    there is."""

    def __init__(self, random: Random, began: float) -> None:
        self.random, self._began = random, began
        self.steps: list[Step] = []
        self.ends = began
        self.one, self.other = random.sample(range(12), 2)

    def at(self, least: float, most: float, what: str, *args: Argument, lasts: float = 0.0) -> float:
        """Somewhere between two seconds; when, from the beginning. `lasts`: seconds in which it goes on."""
        when = self.random.uniform(least, most)
        self.steps.append(Step(round(self._began + when, 3), what, args))
        self.ends = max(self.ends, self._began + when + lasts)
        return when

    def seconds(self, least: float, most: float) -> float:
        return round(self.random.uniform(least, most), 2)

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance


BOTH = (1, 0)
WATCHED: dict[str, tuple[int, ...]] = {"bfd": (1,), "hold": (90, 30), "tors": (2,)}


# --- paths -----------------------------------------------------------------------------------------------


@tale(**WATCHED)
def path_lost(telling: Telling) -> None:
    """One of two ways is lost, of which BFD tells long before the session does: maybe while the agent is
    away."""
    seconds = telling.seconds(30, 60)
    if telling.maybe(0.5):
        telling.at(0, 0.1, "agent_killed", telling.one, telling.seconds(3, 12))
    telling.at(
        0.2, 2, "path_fails", telling.one, seconds, telling.random.choice(("to", "both", "from", "to"))
    )
    telling.at(seconds + 20, seconds + 40, "bfd_killed", telling.one, telling.seconds(0.2, 20), lasts=20)


@tale(**WATCHED, graceful=(120,))
def dies_while_it_restarts(telling: Telling) -> None:
    """A router that restarts keeps its routes, until it is clear that there is more to it."""
    telling.at(0, 1, "router_restarts", telling.one, telling.seconds(20, 90), True)
    telling.at(2, 12, "router_off", telling.one, telling.seconds(60, 200), lasts=200)


@tale(tors=(2,), graceful=(120,), hold=(9, 30))
def routing_dies(telling: Telling) -> None:
    """A router's BGP does not come back."""
    if telling.maybe(0.3):
        telling.at(0, 40, "agent_killed", telling.other, telling.seconds(0.5, 12))
    telling.at(0, 20, "routing_dies", telling.one, telling.seconds(200, 260), lasts=260)


@tale(mesh=(1,), nodes=(3, 2))
def without_routers(telling: Telling) -> None:
    """Nodes of a rack have one another alone, as the topology changes or one loses a block."""
    telling.at(0, 1, "rack_dark", telling.one, telling.seconds(200, 260), lasts=260)
    if telling.maybe(0.65):
        telling.at(55, 59, "api_slow", 0, 5.0, telling.seconds(15, 40))  # the first of nodes reflects
        telling.at(60, 70, "topology_changes", telling.seconds(60, 90))
    else:
        telling.at(60, 70, "block_lost", telling.one, telling.seconds(60, 100))
        telling.at(80, 90, "agent_killed", telling.other, telling.seconds(0.5, 5))


# --- restarts --------------------------------------------------------------------------------------------


@tale(nodes=(2, 3, 1), tors=(1, 2), graceful=(120,))
def restart_together(telling: Telling) -> None:
    """A router and the agents beside it restart, as after an update of all; it waits for all of them."""
    telling.at(0, 1, "router_restarts", telling.one, telling.seconds(0.5, 4), True)
    if telling.maybe(0.85):
        telling.at(0, 1, "agent_killed", telling.other, telling.seconds(20, 40), lasts=60)
    least, most, seconds = telling.random.choice(
        ((0, 2, telling.seconds(4, 9)), (5, 12, telling.seconds(0.5, 5)))
    )
    away = telling.at(least, most, "agent_killed", telling.other + 1, seconds, lasts=60)
    if telling.maybe(0.3):
        telling.at(away - 0.2, away + 1, "api_cut", telling.other + 1, telling.seconds(10, 40))


@tale()
def begins_without_api(telling: Telling) -> None:
    """An agent that starts waits for the API server, for longer than anything else is waited for."""
    seconds = telling.seconds(125, 180) if telling.maybe(0.6) else telling.seconds(15, 40)
    telling.at(0, 0.1, "api_cut", telling.one, seconds, lasts=seconds)
    telling.at(0.2, 2, "agent_killed", telling.one, telling.seconds(0.2, 3))
    if telling.maybe(0.2):
        telling.at(5, 14, "exabgp_killed", telling.one)
    elif telling.maybe(0.2):
        telling.at(5, 14, "node_deleted", telling.one, telling.seconds(1, 8))


@tale(graceful=(120,))
def speaker_dies(telling: Telling) -> None:
    """ExaBGP is started anew while what is to be said changes."""
    when = telling.at(0, 5, "exabgp_killed", telling.one, lasts=12)
    for _ in range(telling.random.choice((0, 0, 1))):
        telling.at(
            when - 0.3, when + 1.5, "service_deleted", telling.random.randrange(4), telling.seconds(5, 60)
        )
    if telling.maybe(0.3):
        telling.at(when + 0.2, when + 1, "agent_killed", telling.one, telling.seconds(0.1, 2))
    telling.at(50, 70, "speaker_refuses", telling.one, telling.seconds(0.5, 3), lasts=140)


@tale(graceful=(120,))
def swept(telling: Telling) -> None:
    """What a router had before it restarted it has no more."""
    telling.at(0, 1, "prefixes_burst", telling.random.choice((3, 12)), telling.seconds(31, 40))
    telling.at(28, 30, "router_restarts", telling.one, telling.seconds(14, 60), True, lasts=60)


@tale(hold=(9, 30))
def missed_words(telling: Telling) -> None:
    """Sessions come and go in the moment in which an agent finds its speaker; services do."""
    for number in range(4):
        telling.at(20 * number, 20 * number + 5, "missed", telling.one, telling.seconds(0.1, 3), lasts=40)
    away = telling.seconds(0.5, 3)
    when = telling.at(110, 120, "agent_killed", telling.one, away, lasts=40)
    for _ in range(3):
        telling.at(when + away, when + away + 0.03, "endpoints_flap", telling.random.randrange(4), 10)


@tale(graceful=(120,))
def sessions_made_anew(telling: Telling) -> None:
    """By us, since an option is another; ExaBGP may put that off."""
    telling.at(0, 5, "hold_time_changes", telling.seconds(10, 20), lasts=40)
    telling.at(90, 100, "reload_put_off", telling.one, telling.random.choice((0.5, 5.0, 30.0)), lasts=75)


@tale()
def flapping(telling: Telling) -> None:
    """Somebody clears a session again and again."""
    telling.at(0, 20, "session_flaps", telling.one, telling.random.choice((3.0, 4.0)), lasts=140)


# --- who goes --------------------------------------------------------------------------------------------


@tale(nodes=(2, 3, 1))
def drained(telling: Telling) -> None:
    """A node drains for long; meanwhile its agent is upgraded, and how long to wait changes."""
    what = telling.random.choice(("cordoned", "leaves"))
    telling.at(0, 1, what, telling.one, telling.seconds(200, 260), lasts=300)
    if telling.maybe(0.7):
        telling.at(25, 60, "agent_killed", telling.one, telling.seconds(0.2, 12))
    if telling.maybe(0.7):
        telling.at(14, 50, "drain_waits_longer", telling.seconds(60, 100))


@tale()
def taken_away(telling: Telling) -> None:
    """A node leaves for good, and its agent is told to stop."""
    telling.at(0, 5, "shut_down", telling.one, telling.seconds(5, 60), lasts=150)


@tale(mesh=(1, 0), nodes=(2, 3, 1))
def node_forgotten(telling: Telling) -> None:
    """Somebody deletes a Node that is there."""
    seconds = telling.seconds(5, 120)
    telling.at(0, 5, "node_deleted", telling.one, seconds, lasts=seconds)
    if telling.maybe():
        telling.at(6, 9, "agent_killed", telling.one, telling.seconds(0.2, 3))


@tale(nodes=(2, 1))
def blocks(telling: Telling) -> None:
    """A node loses a block in which pods run, and its agent starts meanwhile."""
    telling.at(0, 1, "block_lost", telling.one, telling.seconds(60, 130), lasts=130)
    if telling.maybe():
        telling.at(5, 20, "agent_killed", telling.one, telling.seconds(0.2, 3))


# --- the kernel ------------------------------------------------------------------------------------------


@tale(bfd=(1,))
def changed_by_others(telling: Telling) -> None:
    """Somebody deletes routes or tables, or takes a link down for a moment; of some of it nobody is told."""
    what: tuple[tuple[str, tuple[Argument, ...]], ...] = (
        ("routes_deleted", (telling.one, True)),
        ("routes_deleted", (telling.one, False)),
        ("table_flushed", (telling.one,)),
        ("bridge_deleted", (telling.one,)),
        ("link_bounces", (telling.one, telling.random.choice((6, 12)))),
        ("link_bounces", (telling.other, telling.random.choice((6, 12)))),
    )
    began = telling.seconds(12, 14)
    for number, (name, args) in enumerate(telling.random.sample(what, 5)):
        telling.at(began + 65 * number, began + 65 * number + 20, name, *args, lasts=40)


@tale()
def refused(telling: Telling) -> None:
    """The kernel takes one route no more, or fails for a moment."""
    telling.at(0, 5, "route_refused", telling.one, telling.seconds(0.3, 3), lasts=90)
    telling.at(140, 150, "fails_for_a_moment", telling.one, telling.seconds(0.3, 2), lasts=80)
    if telling.maybe():
        telling.at(250, 260, "bridge_fails", telling.other, telling.seconds(1, 40), lasts=90)


@tale(policies=(1,), services=(4, 2), pods=(3, 2))
def table_refused(telling: Telling) -> None:
    """nft refuses a part of the table as it is made anew."""
    telling.at(330, 340, "refused_once", telling.other, telling.maybe(0.7), lasts=80)
    for number in range(2):
        seconds, of_policies = telling.seconds(0.5, 10), telling.maybe()
        telling.at(
            160 * number, 160 * number + 5, "flushed_and_refused", telling.one + number, seconds, of_policies
        )
        telling.at(160 * number + 6, 160 * number + 8, "pod_added", telling.one + number, lasts=90)


@tale(mesh=(0,), services=(1, 2), pods=(2, 1))
def flushed(telling: Telling) -> None:
    """Somebody flushes all tables, of nodes that do not know which addresses are services'."""
    telling.at(0, 5, "ranges_unknown", telling.seconds(150, 180), lasts=180)
    telling.at(35, 60, "table_flushed", telling.one)
    telling.at(90, 120, "table_flushed", telling.other)


@tale(policies=(1,), pods=(3, 2))
def uncounted(telling: Telling) -> None:
    """The kernel cannot be read as the last pod goes that a policy is for."""
    telling.at(0, 1, "kernel_fails", telling.one, telling.seconds(60, 80))
    telling.at(20, 30, "evicted", telling.one, lasts=200)


# --- services and pods -----------------------------------------------------------------------------------


@tale(policies=BOTH, services=(1, 2), pods=(3, 2))
def rollouts(telling: Telling) -> None:
    """All pods are replaced, node by node, in the order of their addresses; traffic goes on."""
    for number in range(3):
        telling.at(
            14 + 30 * number,
            16 + 30 * number,
            "rollout",
            telling.one + number,
            telling.seconds(0, 8),
            lasts=20,
        )


@tale(services=(1, 2))
def services_go(telling: Telling) -> None:
    """Services that are served everywhere are deleted, and made anew."""
    for number in range(3):
        telling.at(
            40 * number,
            40 * number + 5,
            "service_deleted",
            telling.random.randrange(4),
            telling.seconds(5, 20),
            lasts=40,
        )
    telling.at(10, 110, "endpoints_flap", telling.random.randrange(4), 3)


@tale(mesh=(1,), reflectors=(1,), nodes=(2, 3), services=(4, 2))
def services_swap(telling: Telling) -> None:
    """One service comes as another goes, as if renamed; a node passes on what it hears."""
    for number in range(2):
        began, seconds = 60.0 * number + telling.seconds(0, 5), float(telling.random.randrange(3, 20))
        one = telling.random.randrange(4)
        telling.at(began, began, "service_deleted", one, seconds)
        telling.at(
            began + seconds, began + seconds, "service_deleted", one + 1, telling.seconds(5, 20), lasts=20
        )


# --- routers' and nodes' words ---------------------------------------------------------------------------


@tale(nodes=(2, 3))
def liars(telling: Telling) -> None:
    """Somebody announces what is others'."""
    for number, kind in enumerate(telling.random.sample(range(5), 5)):
        seconds = telling.seconds(20, 50)
        telling.at(
            20 * number,
            20 * number + 15,
            "hijack",
            5 * telling.random.randrange(10) + kind,
            seconds,
            lasts=seconds,
        )
    telling.at(60, 90, "node_lies", telling.one, telling.seconds(10, 40), lasts=40)


# --- a seed ----------------------------------------------------------------------------------------------


def told(seed: int) -> Case:
    """A small world and the tales that are told in it."""
    drawn = Random(seed)
    needs: dict[str, tuple[int, ...]] = {}
    tales: list[Tale] = []
    for each in drawn.sample(TALES, len(TALES)):
        both = each.fits(needs)
        if both is not None and len(tales) < MOST_TALES:
            needs = both
            tales.append(each)
    found = _shape(drawn, needs)
    at, steps = drawn.choice((0.0, 12.0)), list[Step]()
    for each in tales:
        telling = Telling(drawn, at)
        each.tell(telling)
        steps += telling.steps
        at = telling.ends + drawn.uniform(*PAUSE)
    return Case(seed, found, tuple(sorted(steps, key=lambda step: step.at)))


def _shape(drawn: Random, needs: Needs) -> Shape:
    """The likeliest twice as likely as the next."""
    racks = 2 if drawn.random() < 0.15 else 1
    plain = {
        "tors": drawn.choice((1, 2)),
        "spines": drawn.choice((0, 0, 1)),
        "nodes": drawn.choice((1, 2, 2)),
        "mesh": drawn.random() < 0.7,
        "bfd": drawn.random() < 0.5,
        "hold": drawn.choice((9, 90)),
        "graceful": drawn.choice((120, 120, 120, 0)),
        "services": drawn.choice((1, 2, 4)),
        "pods": drawn.choice((1, 2)),
        "policies": drawn.random() < 0.3,
        "reflectors": drawn.random() < 0.2,
    }
    for name, values in needs.items():
        drawn_from = [each for at, each in enumerate(values) for _ in range(2 ** (len(values) - 1 - at))]
        plain[name] = drawn.choice(drawn_from)
    if racks > 1:
        plain["spines"], plain["mesh"], plain["nodes"] = max(1, plain["spines"]), True, min(2, plain["nodes"])
    if plain["nodes"] * racks == 1:
        plain["mesh"] = False if drawn.random() < 0.5 else plain["mesh"]
    flags = {name: bool(plain[name]) for name in ("mesh", "bfd", "policies")}
    flags["reflectors"] = flags["mesh"] and bool(plain["reflectors"])
    lag = drawn.choice((0.0, 0.0, 0.5))
    return replace(Shape(**plain | flags), racks=racks, lag=lag)  # type: ignore[arg-type]
